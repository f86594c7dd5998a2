package reconcile_test

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func TestDelay_FailureThatIsNotTheVersionsIsTriedAgainLater(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		for range 3 {
			a.Host.Engine.Fail("Create", errors.New("no space left on device"))
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(5 * time.Second)
		assert.Equal(t, a.Journal.All()[0].Outcome, rotation.OutcomeRolledBack)
		_, pinned := a.Store.Pinned(web.ID)
		assert.Assert(t, !pinned, "the version did nothing wrong")
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
		assert.NilError(t, err)
		contains(t, results[0].Error, "no space left on device; tried again at ")

		time.Sleep(10*time.Second + 20*time.Second) // 10 s, then 20 s: both fail
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
		time.Sleep(time.Minute) // after 40 s more
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		assert.DeepEqual(t, a.names(), []string{"web"})
	})
}

func TestDelay_RequestAndNewVersionDoNotWait(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, a *agent) secret.Version{
		"a request": func(t *testing.T, a *agent) secret.Version {
			_, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true})
			assert.NilError(t, err)
			return "2"
		},
		"a new version": func(_ *testing.T, a *agent) secret.Version {
			a.set("app/db", "three")
			time.Sleep(8 * time.Second)
			return "3"
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				a.up(t, "web", usesDB)
				a.Host.Engine.Fail("Create", errors.New("no space left on device"))
				a.run(t)
				a.set("app/db", "two")
				time.Sleep(time.Second)
				want := do(t, a)
				assert.Equal(t, a.has(t, "web", "app/db"), want)
			})
		})
	}
}

func TestDelay_GrowsToTenMinutes(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		for range 1000 {
			a.Host.Engine.Fail("Create", errors.New("no space left on device"))
		}
		var creates atomic.Int32
		a.Host.Machine.Observe = func(p rotation.Progress) {
			if p.Step == rotation.StepCreate {
				creates.Add(1)
			}
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(5 * time.Hour)
		tries := creates.Load()
		assert.Assert(t, tries >= 30 && tries <= 40, "%d tries in 5 hours", tries)
	})
}

// A store that has another version at each call, none of which works.
func TestDelay_VersionAfterVersionThatDoesNotWorkIsTriedMoreAndMoreRarely(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		const minutes = 4 * 60
		a.Behave = func(_ engine.Container, got secret.Versions) enginetest.Behaviour {
			if n, _ := strconv.Atoi(string(got[id("app/db")])); n > 1 && n <= 1+minutes {
				return enginetest.Behaviour{UnhealthyAfter: 500 * time.Millisecond}
			}
			return enginetest.Behaviour{HealthyAfter: time.Second}
		}
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		var creates atomic.Int32
		a.Host.Machine.Observe = func(p rotation.Progress) {
			if p.Phase == rotation.Forward && p.Step == rotation.StepCreate {
				creates.Add(1)
			}
		}
		a.run(t)
		for range minutes {
			a.set("app/db", "bad")
			time.Sleep(time.Minute)
		}
		tries := creates.Load()
		assert.Assert(t, tries >= 3+4*5 && tries <= 3+4*9, "%d tries in four hours", tries)
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db")})
		assert.NilError(t, err)
		contains(t, results[0].Error, "versions in a row")

		a.set("app/db", "good")
		time.Sleep(11 * time.Minute)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("242"))
		a.set("app/db", "better")
		time.Sleep(10 * time.Second)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("243"))
	})
}
