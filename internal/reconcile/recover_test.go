package reconcile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// dieAt begins a rotation of the container and kills the agent at the point.
func (a *agent) dieAt(t *testing.T, name, point string) {
	t.Helper()
	o, err := a.Observe(t.Context(), a.Container(t, name))
	assert.NilError(t, err)
	from, _, _ := a.Store.Delivered(o.Container.ID)
	e, err := rotation.Plan(o, from, secret.Versions{id("app/db"): "2"}, "test", time.Now())
	assert.NilError(t, err)
	a.Host.Machine.Fault = func(at string) error {
		if at == point {
			panic(point)
		}
		return nil
	}
	defer func() {
		a.Host.Machine.Fault = nil
		assert.Equal(t, recover(), any(point))
	}()
	assert.NilError(t, a.Host.Machine.Begin(&e))
	_ = a.Host.Machine.Run(context.Background(), &e)
}

// rollingPoints are the points of a rolling rotation that succeeds.
func rollingPoints(t *testing.T) []string {
	points := pointsOf(t, usesDB)
	assert.Assert(t, len(points) > 20)
	return points
}

// pointsOf are the points of a rotation that succeeds.
func pointsOf(t *testing.T, opts ...hosttest.Option) (points []string) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", opts...)
		a.Host.Machine.Fault = func(point string) error {
			if !slices.Contains(points, point) {
				points = append(points, point)
			}
			return nil
		}
		a.Secrets.Set("app/db", "two")
		a.run(t)
		settle()
		a.stop()
		a.stop = func() {}
	})
	return points
}

func TestRecover_AgentAndEngineDieTogetherAtAnyPoint(t *testing.T) {
	points := rollingPoints(t)
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				a.up(t, "web", usesDB)
				a.Secrets.Set("app/db", "two")
				a.dieAt(t, "web", point)
				a.Die()
				a.Host.Engine.RestartEngine()
				a = a.again(t)
				a.run(t)
				settle()
				assert.DeepEqual(t, a.names(), []string{"web"})
				assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
				assert.Equal(t, len(a.Journal.Pending()), 0)
			})
		})
	}
	t.Logf("%d points", len(points))
}

func TestRecover_SaysWhatItFoundAndDid(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "worker", usesDB)
		a.Secrets.Set("app/db", "two")
		a.dieAt(t, "web", "rolling/forward/stop/before")
		a.dieAt(t, "worker", "rolling/forward/create/after")
		a = a.again(t)
		a.run(t)
		settle()
		contains(t, a.log.String(), `msg="Detected pending rotations, performing automatic recovery" count=2`)
		contains(t, a.log.String(), `msg="Removing orphaned backup container" backup_id=`)
		contains(t, a.log.String(), `msg="Automatic recovery completed" rotations_processed=2`)
		assert.DeepEqual(t, a.names(), []string{"web", "worker"})
		for _, e := range a.Journal.All() {
			assert.Equal(t, e.Status, rotation.StatusRecovered)
			assert.Equal(t, e.Outcome, rotation.OutcomeRotated)
		}
	})
}

func TestRecover_NothingPendingSaysNothing(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.run(t)
		settle()
		assert.Equal(t, a.log.String(), "")
	})
}

func TestRecover_PendingRotationIsNotOverwrittenByANewOne(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.Secrets.Set("app/db", "two")
		a.dieAt(t, "web", "rolling/forward/name-original/after")
		pending := a.Journal.Pending()[0]
		a = a.again(t)
		locks := filepath.Join(a.Dir, "locks")
		assert.NilError(t, os.Remove(locks)) // no lock can be taken
		a.run(t)
		settle()
		assert.Equal(t, a.Journal.Pending()[0].ID, pending.ID)
		assert.Equal(t, len(a.names()), 2)

		assert.NilError(t, os.Mkdir(locks, 0o700))
		time.Sleep(2 * time.Minute)
		assert.DeepEqual(t, a.names(), []string{"web"})
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestRecover_SigtermParksAndTheNextAgentFinishes(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(500 * time.Millisecond)
		a = a.again(t)
		assert.Equal(t, len(a.Journal.Pending()), 1)
		a.run(t)
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		assert.DeepEqual(t, a.names(), []string{"web"})
	})
}

var behindFront = []hosttest.Option{usesDB, hosttest.Service("app", "web"), hosttest.Label(label.Front, "web-front")}

// created makes a container behind a front, as Compose does before it starts it.
func (a *agent) created(t *testing.T) engine.Container {
	t.Helper()
	cid, err := a.Host.Engine.Create(t.Context(), "app-web-1", hosttest.Spec(behindFront...))
	assert.NilError(t, err)
	return a.Container(t, cid)
}

func (a *agent) aliases(t *testing.T, c engine.Container) []string {
	t.Helper()
	end, on := a.Container(t, c.ID).Networks["app_default"]
	assert.Assert(t, on, "it is on no network")
	return slices.DeleteFunc(end.Aliases, func(s string) bool { return s == c.ShortID() })
}

func TestAliases_AreDroppedWhenAContainerIsCreated(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.run(t)
		c := a.created(t)
		settle()
		assert.Equal(t, len(a.aliases(t, c)), 0)
		assert.NilError(t, a.Host.Engine.Start(t.Context(), c.ID))
	})
}

func TestAliases_OfOtherContainersStay(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		running := a.created(t)
		assert.NilError(t, a.Host.Engine.Start(t.Context(), running.ID))
		assert.NilError(t, a.Aliases.Drop(t.Context(), running.ID))
		assert.DeepEqual(t, a.aliases(t, running), []string{"web"})

		plain, err := a.Host.Engine.Create(t.Context(), "plain", hosttest.Spec(hosttest.Service("app", "web")))
		assert.NilError(t, err)
		assert.NilError(t, a.Aliases.Drop(t.Context(), plain))
		assert.DeepEqual(t, a.aliases(t, a.Container(t, plain)), []string{"web"})
	})
}

func TestAliases_NetworkIsGivenBackAfterADeathInBetween(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		c := a.created(t)
		a.Host.Engine.Fail("Connect", errors.New("killed"))
		assert.ErrorContains(t, a.Aliases.Drop(t.Context(), c.ID), "killed")
		assert.Equal(t, len(a.Container(t, c.ID).Networks), 0)
		a = a.again(t)
		a.run(t)
		settle()
		assert.Equal(t, len(a.aliases(t, c)), 0)
	})
}

func TestAliases_NetworkIsGivenBackByTheSameAgent(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.Host.Engine.Fail("Connect", errors.New("busy"))
		c := a.created(t)
		time.Sleep(2 * time.Minute)
		assert.Equal(t, len(a.aliases(t, c)), 0)
	})
}

func TestAliases_SecondDropKeepsWhatTheFirstOwes(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		c := a.created(t)
		a.Host.Engine.Fail("Connect", errors.New("busy"))
		assert.ErrorContains(t, a.Aliases.Drop(t.Context(), c.ID), "busy")
		assert.NilError(t, a.Aliases.Drop(t.Context(), c.ID))
		assert.Equal(t, len(a.aliases(t, c)), 0)
	})
}

func TestAliases_NetworkThatIsGoneDoesNotStopTheAgent(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		c := a.created(t)
		a.Host.Engine.RemoveNetwork("app_default")
		_ = a.Aliases.Drop(t.Context(), c.ID)
		a = a.again(t)
		a.run(t) // hangs if it never becomes ready
		data, err := os.ReadFile(filepath.Join(a.Dir, "state", "networks.json"))
		assert.NilError(t, err)
		assert.Equal(t, string(data), "{}")
	})
}

// The engine, when it starts, pays no heed to who lives in whose network.
func TestRecover_WhatLivesInAContainersNetworkIsStartedAfterIt(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		web := a.Container(t, "web")
		inside := func(policy container.RestartPolicyMode) hosttest.Option {
			return func(s *engine.Spec) {
				s.HostConfig.NetworkMode = container.NetworkMode("container:" + web.ID)
				s.HostConfig.RestartPolicy.Name = policy
				s.Networks = nil
			}
		}
		a.Host.Run(t, "sidecar", inside(container.RestartPolicyAlways))
		a.Host.Run(t, "once", inside(container.RestartPolicyDisabled))
		a.Die()
		a.Host.Engine.RestartEngine()
		assert.Assert(t, !a.Container(t, "web").Running() && !a.Container(t, "sidecar").Running())
		a = a.again(t)
		a.run(t)
		settle()
		assert.Assert(t, a.Container(t, "web").Running())
		assert.Assert(t, a.Container(t, "sidecar").Running(), a.Container(t, "sidecar").State.Error)
		assert.Assert(t, !a.Container(t, "once").Running())
	})
}

// What is to be started in the network of a container that crashes may find it gone.
func TestRecover_WhatLivesInAContainersNetworkIsTriedAgain(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		web := a.Container(t, "web")
		a.Host.Run(t, "sidecar", func(s *engine.Spec) {
			s.HostConfig.NetworkMode = container.NetworkMode("container:" + web.ID)
			s.HostConfig.RestartPolicy.Name = container.RestartPolicyAlways
			s.Networks = nil
		})
		a.Die()
		a.Host.Engine.RestartEngine()
		a = a.again(t)
		deliver, tries := a.Host.Engine.OnStart, 0
		a.Host.Engine.OnStart = func(c engine.Container) (enginetest.Behaviour, error) {
			if c.Name == "sidecar" {
				if tries++; tries == 1 {
					return enginetest.Behaviour{}, errors.New("namespace path: no such file or directory")
				}
			}
			return deliver(c)
		}
		a.run(t)
		settle()
		assert.Assert(t, a.Container(t, "sidecar").Running(), a.Container(t, "sidecar").State.Error)
		assert.Equal(t, tries, 2)
	})
}

func TestRecover_ChangeInPlaceGoesOnWithEveryGenerationOfTheJournalLost(t *testing.T) {
	for name, bad := range map[string]bool{"good version": false, "bad version": true} {
		for _, point := range []string{"assign/after", "restart/before", "restart/after", "gate/recorded", "watch/after"} {
			if bad && strings.HasPrefix(point, "watch") {
				continue
			}
			t.Run(name+"/"+point, func(t *testing.T) {
				onHost(t, func(t *testing.T, a *agent) {
					if bad {
						a.badVersion("2")
					}
					a.Secrets.Set("app/db", "one")
					a.up(t, "web", usesDB, hosttest.Label(label.Strategy, label.Restart))
					a.Secrets.Set("app/db", "two")
					a.dieAt(t, "web", "restart/forward/"+point)
					assert.NilError(t, os.Remove(a.JournalPath()))
					assert.NilError(t, os.RemoveAll(a.JournalPath()+".last"))
					a = a.again(t)
					a.run(t)
					settle()
					assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)
					pin, pinned := a.Store.Pinned(a.Container(t, "web").ID)
					assert.Equal(t, pinned, bad)
					if bad {
						assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
						assert.DeepEqual(t, pin.Failed, secret.Versions{id("app/db"): "2"})
					} else {
						assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
					}
				})
			})
		}
	}
}
