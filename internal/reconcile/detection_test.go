package reconcile_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/watch"
)

// counted counts the rotations of each container from now on, while none is on its way.
func (a *agent) counted() func() map[string]int {
	var mu sync.Mutex
	seen, count := map[string]bool{}, map[string]int{}
	a.Host.Machine.Observe = func(p rotation.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[p.RotationID] {
			seen[p.RotationID] = true
			count[p.Container]++
		}
	}
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(count)
	}
}

func TestDetection_OneCallForASecretHoweverManyContainersUseIt(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		for i := range 20 {
			a.up(t, fmt.Sprintf("web%d", i), usesDB)
		}
		versions, values := a.Secrets.Versions.Load(), a.Secrets.Gets.Load()
		a.run(t)
		settle()
		assert.Assert(t, a.Secrets.Versions.Load()-versions <= 2, "the first comparison, and a poll")
		time.Sleep(a.Polling)
		versions = a.Secrets.Versions.Load()
		time.Sleep(10 * a.Polling)
		assert.Equal(t, a.Secrets.Versions.Load()-versions, int64(10))
		_, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Equal(t, a.Secrets.Versions.Load()-versions, int64(10), "whoever looks asks no store")
		assert.Equal(t, a.Secrets.Gets.Load(), values)
	})
}

func TestDetection_ABurstMakesOneRotationWithTheLastValues(t *testing.T) {
	for name, burst := range map[string]func(a *agent){
		"one secret changes ten times": func(a *agent) {
			for range 10 {
				a.set("app/s7", "next")
				time.Sleep(100 * time.Millisecond)
			}
		},
		"a hundred secrets change": func(a *agent) {
			for i := range 100 {
				a.set(fmt.Sprintf("app/s%d", i), "next")
				time.Sleep(10 * time.Millisecond)
			}
		},
		"a hundred secrets change, and the containers are looked at for other reasons": func(a *agent) {
			for i := range 100 {
				a.set(fmt.Sprintf("app/s%d", i), "next")
				time.Sleep(10 * time.Millisecond)
				if i%10 == 5 {
					a.changed <- struct{}{}
				}
			}
		},
		"a hundred secrets change and nobody tells": func(a *agent) {
			time.Sleep(20 * time.Second)
			for i := range 100 {
				a.Secrets.Set(fmt.Sprintf("app/s%d", i), "next")
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				for i := range 100 {
					a.Secrets.Set(fmt.Sprintf("app/s%d", i), "first")
				}
				var names []string
				for i := range 10 { // each uses ten, and s7 besides
					opts := []hosttest.Option{hosttest.Env("S7=dso://app/s7")}
					for j := range 10 {
						opts = append(opts, hosttest.Env(fmt.Sprintf("S%d=dso://app/s%d", j, 10*j+i)))
					}
					names = append(names, fmt.Sprintf("web%d", i))
					a.up(t, names[i], opts...)
				}
				a.run(t)
				settle()
				rotations := a.counted()
				burst(a)
				time.Sleep(5 * time.Minute)
				for _, name := range names {
					assert.Equal(t, rotations()[name], 1, name)
					has, _, _ := a.Store.Delivered(a.Container(t, name).ID)
					for id, v := range has {
						now, err := a.Secrets.Version(t.Context(), id.Path)
						assert.NilError(t, err)
						assert.Equal(t, v, now, "%s of %s", id, name)
					}
				}
			})
		})
	}
}

// Somebody removes it while the end of a burst is waited for.
func TestDetection_AContainerThatIsGoneByThenIsNotMadeAnew(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		c := a.up(t, "web", usesDB)
		a.run(t)
		settle()
		rotations := a.counted()
		a.set("app/db", "two")
		time.Sleep(50 * time.Millisecond)
		a.changed <- struct{}{} // it is looked at in the middle
		time.Sleep(50 * time.Millisecond)
		assert.NilError(t, a.Host.Engine.Remove(t.Context(), c.ID))
		time.Sleep(5 * time.Minute)
		assert.Equal(t, len(a.names()), 0, "%s", a.names())
		assert.Equal(t, rotations()["web"], 0)
	})
}

func TestDetection_AStoreThatIsDownIsLoggedOnceForEachContainer(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		for range 2 {
			a.Secrets.Break(errors.New("connection refused"))
			time.Sleep(time.Hour)
			a.Secrets.Break(nil)
			time.Sleep(time.Hour)
		}
		assert.Equal(t, strings.Count(a.log.String(), "desired versions unknown"), 2)
		assert.Equal(t, strings.Count(a.log.String(), "desired versions known again"), 2)
	})
}

// A user and its password are written one after the other; whoever looks in between
// waits for the other.
func TestDetection_UserAndPasswordAreNeverOfDifferentVersions(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		var mu sync.Mutex
		var mixed []string
		a.Behave = func(c engine.Container, got secret.Versions) enginetest.Behaviour {
			mu.Lock()
			defer mu.Unlock()
			if got[id("app/user")] != got[id("app/password")] {
				mixed = append(mixed, c.Name)
			}
			return enginetest.Behaviour{HealthyAfter: time.Second}
		}
		a.Secrets.Set("app/user", "one")
		a.Secrets.Set("app/password", "one")
		for i := range 2 {
			a.up(t, fmt.Sprintf("web%d", i), hosttest.Env("U=dso://app/user"), hosttest.Env("P=dso://app/password"))
		}
		a.run(t)
		rotations := a.counted()
		for i := range 12 {
			time.Sleep(time.Duration(i) * 11 * time.Second) // at all times between two polls
			first, second := "app/user", "app/password"
			if i%2 == 1 {
				first, second = second, first
			}
			a.Secrets.Set(first, "next")
			if i%3 == 0 {
				a.Watch.Push(secret.DefaultProvider)
			}
			time.Sleep(50 * time.Millisecond)
			a.Secrets.Set(second, "next")
			if i%3 < 2 {
				a.Watch.Push(secret.DefaultProvider)
			}
			time.Sleep(2 * time.Minute)
		}
		assert.Equal(t, len(mixed), 0, "%v", mixed)
		assert.DeepEqual(t, rotations(), map[string]int{"web0": 12, "web1": 12})
	})
}

func TestDetection_AStartThatGetsANewerVersionIsNotTakenBack(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Polling = 24 * time.Hour
		a = a.again(t)
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		a.up(t, "other", usesDB)
		a.run(t)
		settle()
		a.Watch.Push(secret.DefaultProvider) // it is known to stand still
		settle()
		rotations := a.counted()
		a.Secrets.Set("app/db", "two") // and nobody tells
		a.Kill("web")                  // the restart reads the store itself
		settle()
		assert.Equal(t, a.Container(t, "web").ID, web.ID)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		// What web was started with is only tried: nothing is restarted for it.
		assert.DeepEqual(t, rotations(), map[string]int{"other": 1, "web": 1})
	})
}

func TestDetection_AnEngineThatIsBackMakesTheStoresBeAskedAgain(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Polling = 24 * time.Hour
		a = a.again(t)
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		settle()
		a.Host.Engine.SetDown(true)
		a.Secrets.Set("app/db", "two") // and nobody tells
		settle()
		a.Host.Engine.SetDown(false)
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestDetection_AStoreThatComesBackWithoutAChangeRotatesNothing(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "app-web-1", usesDB, hosttest.Service("app", "web"))
		a.run(t)
		settle()
		before := a.Host.Engine.Calls()
		a.Secrets.Break(errors.New("connection refused"))
		time.Sleep(20 * time.Minute)
		assert.Assert(t, a.Watch.Status()[0].Open)
		a.Secrets.Break(nil)
		time.Sleep(20 * time.Minute)
		assert.Assert(t, !a.Watch.Status()[0].Open)
		a.Watch.Over(map[string]*watch.Source{"local": {Provider: a.Secrets, Name: "local", Attempts: 1, Log: a.Host.Log}}, a.Polling)
		a.Watch.Tell()
		settle()
		assert.Equal(t, len(a.since(before)), 0, "%v", a.since(before))
		assert.Equal(t, len(a.Journal.All()), 0)

		a.Secrets.Set("app/db", "two")
		time.Sleep(2 * a.Polling)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"), "and a change is still seen")
	})
}

func TestDetection_AChangeDuringAnOutageIsSeenWithinAnInterval(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		a.Secrets.Break(errors.New("connection refused"))
		time.Sleep(3 * time.Hour)
		a.Secrets.Set("app/db", "two")
		a.Secrets.Break(nil)
		time.Sleep(a.Polling + 5*time.Second)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

// What was known before the store went down does not make a container current that
// was started with old values because of it.
func TestDetection_AStaleContainerIsConfirmedByTheStoreOnly(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Polling = 24 * time.Hour
		a = a.again(t)
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		a.run(t)
		settle()
		a.Secrets.Break(errors.New("connection refused"))
		a.Kill("web")
		settle()
		assert.Assert(t, a.Container(t, "web").Running())
		assert.Assert(t, a.Store.Stale(web.ID) != nil)
		a.Secrets.Break(nil)
		a.Watch.Push(secret.DefaultProvider)
		settle()
		assert.Assert(t, a.Store.Stale(web.ID) == nil)
		assert.Equal(t, len(a.Journal.All()), 0)
	})
}

func TestDetection_AFailedVersionIsNotTriedAgainByTheNextAgent(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.badVersion("2")
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		a.run(t)
		a.set("app/db", "bad")
		settle()
		assert.Equal(t, a.Journal.All()[0].Outcome, rotation.OutcomeRolledBack)
		for range 3 {
			a = a.again(t)
			before := a.Host.Engine.Calls()
			a.run(t)
			a.Watch.Push(secret.DefaultProvider)
			time.Sleep(time.Hour)
			assert.Equal(t, len(a.since(before)), 0, "%v", a.since(before))
		}
		assert.Equal(t, a.Container(t, "web").ID, web.ID)
		assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)

		results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true})
		assert.NilError(t, err)
		assert.Assert(t, slices.ContainsFunc(results, func(r reconcile.Result) bool { return r.Outcome == rotation.OutcomeRolledBack }), "a person asks: %v", results)
		a.set("app/db", "good")
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"), "it changed")
	})
}
