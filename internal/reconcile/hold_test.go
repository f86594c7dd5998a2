package reconcile_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var replicas = []string{"app-web-1", "app-web-2", "app-web-3"}

// threeReplicas brings up a service whose secret is about to change to a version
// that works, or does not.
func (a *agent) threeReplicas(t *testing.T, strategy rotation.Strategy, bad bool) {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	if bad {
		a.badVersion("2")
	}
	for _, name := range replicas {
		a.up(t, name, usesDB, hosttest.Service("app", "web"), hosttest.Label(label.Strategy, string(strategy)),
			hosttest.Policy(container.RestartPolicyAlways))
	}
}

// checkReplicas requires that all three have the version that works.
func (a *agent) checkReplicas(t *testing.T, bad bool) {
	t.Helper()
	assert.DeepEqual(t, a.names(), replicas)
	assert.Equal(t, len(a.Journal.Pending()), 0)
	want := secret.Version("2")
	if bad {
		want = "1"
	}
	for _, name := range replicas {
		c := a.Container(t, name)
		assert.Equal(t, c.State.Health, container.Healthy, name)
		assert.Equal(t, a.has(t, name, "app/db"), want, name)
		pin, pinned := a.Store.Pinned(c.ID)
		assert.Equal(t, pinned, bad, name)
		if bad {
			assert.DeepEqual(t, pin.Failed, secret.Versions{id("app/db"): "2"})
		}
	}
}

func TestHold_VersionThatFailsInOneReplicaIsNotTriedInTheOthers(t *testing.T) {
	for _, strategy := range []rotation.Strategy{rotation.Rolling, rotation.Restart} {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.threeReplicas(t, strategy, true)
				a.run(t)
				a.set("app/db", "bad")
				settle()
				assert.Equal(t, len(a.Journal.All()), 1)
				a.checkReplicas(t, true)

				a.Secrets.Set("app/db", "good")
				a.set("app/db", "good")
				settle()
				for _, name := range replicas {
					assert.Equal(t, a.has(t, name, "app/db"), secret.Version("4"))
					_, pinned := a.Store.Pinned(a.Container(t, name).ID)
					assert.Assert(t, !pinned)
				}
			})
		})
	}
}

// The nth pass of a point of a rotation of three replicas.
type moment struct {
	point string
	pass  int
}

// momentsOf lists where an agent can die while the three replicas change.
func momentsOf(t *testing.T, strategy rotation.Strategy, bad bool) (all []moment) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, strategy, bad)
		passes := map[string]int{}
		a.Host.Machine.Fault = func(point string) error {
			passes[point]++
			all = append(all, moment{point, passes[point]})
			return nil
		}
		a.run(t)
		a.set("app/db", "two")
		settle()
		a.checkReplicas(t, bad)
		a.stop()
		a.stop = func() {}
	})
	assert.Assert(t, len(all) > 20)
	return all
}

func TestHold_ReplicasAreAllNewOrAllOldWhereverAgentAndEngineDie(t *testing.T) {
	var each hosttest.Cases
	for _, strategy := range []rotation.Strategy{rotation.Rolling, rotation.Restart} {
		for _, bad := range []bool{false, true} {
			for _, m := range momentsOf(t, strategy, bad) {
				for _, engineToo := range []bool{false, true} {
					each.Run(t, fmt.Sprintf("%s/%d, bad=%t, engine too=%t", m.point, m.pass, bad, engineToo), func(t *testing.T) {
						onHost(t, func(t *testing.T, a *agent) {
							a.threeReplicas(t, strategy, bad)
							a.dieOn(m)
							a.run(t)
							a.set("app/db", "two")
							settle()
							if engineToo {
								a.Die()
								a.Host.Engine.RestartEngine()
							}
							a = a.again(t)
							a.run(t)
							settle()
							settle()
							a.checkReplicas(t, bad)
						})
					})
				}
			}
		}
	}
}

// dieOn makes the agent die at the moment: nothing of it goes on.
func (a *agent) dieOn(m moment) {
	passes := map[string]int{}
	a.Host.Machine.Fault = func(point string) error {
		if passes[point]++; point == m.point && passes[point] == m.pass {
			a.cancel()
			runtime.Goexit()
		}
		return nil
	}
}

func TestHold_NobodyIsHeldAfterwards(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, rotation.Rolling, false)
		for _, name := range replicas[1:] { // as an agent left it that died before the first rotation
			assert.NilError(t, a.Store.Pin(a.Container(t, name).ID, secret.Versions{id("app/db"): "1"}, nil))
		}
		a.run(t)
		settle()
		for _, name := range replicas {
			_, pinned := a.Store.Pinned(a.Container(t, name).ID)
			assert.Assert(t, !pinned, name)
		}
	})
}
