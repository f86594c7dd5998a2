package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// recorder notes in which order an agent does things on its connections.
type recorder struct {
	*enginetest.Engine
	mu   sync.Mutex
	said []string
}

func (r *recorder) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.said) == 0 || r.said[len(r.said)-1] != what {
		r.said = append(r.said, what)
	}
}

// all is what was noted since the last call.
func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.said, " ")
	r.said = nil
	return out
}

func (r *recorder) Events(ctx context.Context) (<-chan engine.Event, <-chan error) {
	r.say("subscribe")
	return r.Engine.Events(ctx)
}

func (r *recorder) List(ctx context.Context, labels ...string) ([]string, error) {
	r.say("list")
	return r.Engine.List(ctx, labels...)
}

// record makes the agent's controller note what it does.
func (a *agent) record() *recorder {
	r := &recorder{Engine: a.Host.Engine}
	a.Controller.Engine = r
	a.Claim = func(context.Context) error { r.say("claim"); return nil }
	a.Lost = func() { r.say("lost") }
	return r
}

func TestRun_EveryConnectionIsClaimedThenSubscribedThenListed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		r := a.record()
		a.run(t)
		settle()
		assert.Equal(t, r.all(), "claim subscribe list")
		for range 2 {
			a.Host.Engine.RestartEngine()
			settle()
			assert.Equal(t, r.all(), "lost claim subscribe list")
		}
		a.stop()
		assert.Equal(t, r.all(), "", "what runs when the agent stops may still be finished")
		a.stop = func() {}
	})
}

func TestRun_NothingIsDoneInAnEngineThatIsNotClaimed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.Secrets.Set("app/db", "two")
		r := a.record()
		refused := errors.New("it is another agent's")
		var mu sync.Mutex
		a.Claim = func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return refused
		}
		before := a.Host.Engine.Calls()
		ready := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Controller.Run(ctx, a.changed, func() { close(ready) })
		}()
		settle()
		assert.Equal(t, r.all(), "", "it does not even ask, and a connection that was not claimed is not lost")
		assert.Equal(t, len(a.since(before)), 0)
		contains(t, a.log.String(), "claim engine: it is another agent's")

		mu.Lock()
		refused = nil
		mu.Unlock()
		<-ready
		time.Sleep(time.Minute)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		cancel()
		<-ended
	})
}
