package reconcile_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// rotatesWith rotates web to a version that works, and does something to the new
// container when the rotation comes to a point for the first time.
func rotatesWith(t *testing.T, a *agent, point string, do func(id string)) {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	a.up(t, "web", usesDB)
	var done atomic.Bool
	a.Host.Machine.Fault = func(at string) error {
		if at == point && done.CompareAndSwap(false, true) {
			time.Sleep(100 * time.Millisecond) // in the bubble it was started in this instant
			all := a.Host.Engine.All()
			do(all[len(all)-1].ID)
		}
		return nil
	}
	a.run(t)
	a.set("app/db", "two")
	time.Sleep(6 * time.Second)
	assert.Assert(t, done.Load())
}

func TestOutside_VersionThatWasStoppedFromOutsideIsTriedAgainLater(t *testing.T) {
	for _, point := range []string{"rolling/forward/gate/before", "rolling/forward/watch/before"} {
		for name, stop := range map[string]func(a *agent, id string){
			"a person stops it": func(a *agent, id string) { _ = a.Host.Engine.Stop(context.Background(), id) },
			"the engine goes down": func(a *agent, _ string) {
				a.Host.Engine.ShutDown()
				time.AfterFunc(2*time.Second, a.Host.Engine.RestartEngine)
			},
		} {
			t.Run(name+"/"+point, func(t *testing.T) {
				onHost(t, func(t *testing.T, a *agent) {
					rotatesWith(t, a, point, func(id string) { stop(a, id) })
					assert.Equal(t, strings.Contains(a.log.String(), `cause="it was stopped from outside: `), name == "a person stops it")
					pin, _ := a.Store.Pinned(a.Container(t, "web").ID)
					assert.Equal(t, len(pin.Failed), 0, "the version did nothing wrong")
					settle()
					_, pinned := a.Store.Pinned(a.Container(t, "web").ID)
					assert.Assert(t, !pinned)
					assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
					assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)
					assert.DeepEqual(t, a.names(), []string{"web"})
				})
			})
		}
	}
}

func TestOutside_VersionThatEndsByItselfIsNotTriedAgain(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		rotatesWith(t, a, "rolling/forward/gate/before", a.Host.Engine.Kill)
		pin, pinned := a.Store.Pinned(a.Container(t, "web").ID)
		assert.Assert(t, pinned)
		assert.Equal(t, pin.Failed[id("app/db")], secret.Version("2"))
		time.Sleep(time.Hour)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
	})
}
