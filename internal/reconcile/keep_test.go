package reconcile_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var strategies = []rotation.Strategy{rotation.Rolling, rotation.Restart, rotation.Signal}

// uses is a reference that the strategy can change: a signal gives no new variable.
func uses(strategy rotation.Strategy) hosttest.Option {
	if strategy == rotation.Signal {
		return hosttest.Env("DB=dsofile://app/db")
	}
	return usesDB
}

// kept brings up a container that a person pins at version 1, before version 2 comes.
func (a *agent) kept(t *testing.T, strategy rotation.Strategy) {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	a.up(t, "web", uses(strategy), hosttest.Label(label.Strategy, string(strategy)), hosttest.Policy(container.RestartPolicyAlways))
	a.run(t)
	_, pin, err := a.Keep(t.Context(), "web", "ann")
	assert.NilError(t, err)
	assert.DeepEqual(t, pin.Versions, secret.Versions{id("app/db"): "1"})
	assert.Equal(t, pin.By, "ann")
	a.set("app/db", "two")
	settle()
	a.checkKept(t)
}

func (a *agent) checkKept(t *testing.T) {
	t.Helper()
	assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
	assert.Equal(t, len(a.Journal.All()), 0)
	rows, err := a.Status(t.Context())
	assert.NilError(t, err)
	assert.Assert(t, !rows[0].UpToDate && rows[0].Pinned && rows[0].Pin.By == "ann")
	contains(t, rows[0].Held, "pinned by ann: docker dso unpin web lets it go")
}

func TestKeep_OutlivesChangesStartsAndAgentsUntilItIsLetGo(t *testing.T) {
	for _, strategy := range strategies {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.kept(t, strategy)
				a.Kill("web")
				settle()
				a.checkKept(t)
				results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Cause: "secret set"})
				assert.NilError(t, err)
				assert.Assert(t, strings.HasPrefix(results[0].Error, "pinned by ann"), results[0].Error)
				a = a.again(t)
				a.run(t)
				a.set("app/db", "three")
				settle()
				a.checkKept(t)

				_, err = a.LetGo(t.Context(), "web")
				assert.NilError(t, err)
				settle()
				want := secret.Version("3")
				assert.Equal(t, a.has(t, "web", "app/db"), want)
				_, err = a.LetGo(t.Context(), "web")
				assert.ErrorIs(t, err, reconcile.ErrNotPinned)
			})
		})
	}
}

func TestKeep_ARotationThatAPersonAsksForEndsIt(t *testing.T) {
	for _, strategy := range strategies {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.kept(t, strategy)
				results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true, Cause: "requested"})
				assert.NilError(t, err)
				assert.Equal(t, outcomes(results)["web"], rotation.OutcomeRotated)
				_, pinned := a.Store.Pinned(a.Container(t, "web").ID)
				assert.Assert(t, !pinned)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
			})
		})
	}
}

// The others of the service change over without it.
func TestKeep_HoldsOneReplicaOnly(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, rotation.Restart, false)
		a.run(t)
		_, _, err := a.Keep(t.Context(), "app-web-2", "ann")
		assert.NilError(t, err)
		a.set("app/db", "two")
		settle()
		for name, want := range map[string]secret.Version{"app-web-1": "2", "app-web-2": "1", "app-web-3": "2"} {
			assert.Equal(t, a.has(t, name, "app/db"), want, name)
		}
	})
}

// Versions that failed before are not tried because a person let the container go.
func TestKeep_WhatFailedStaysFailed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, rotation.Restart, true)
		a.run(t)
		a.set("app/db", "bad")
		settle()
		_, pin, err := a.Keep(t.Context(), "app-web-1", "ann")
		assert.NilError(t, err)
		assert.DeepEqual(t, pin.Failed, secret.Versions{id("app/db"): "2"})
		_, err = a.LetGo(t.Context(), "app-web-1")
		assert.NilError(t, err)
		settle()
		a.checkReplicas(t, true)
	})
}

// Wherever a rotation is: either it is told that the container is being changed over, or
// the pin is there, holds what the container has, and stays.
func TestKeep_DuringARotationIsRefusedOrHolds(t *testing.T) {
	for _, strategy := range strategies {
		points := int32(1)
		for at := int32(1); at <= points; at++ {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				a.up(t, "web", uses(strategy), hosttest.Label(label.Strategy, string(strategy)))
				a.run(t)
				var passed atomic.Int32
				type answer struct {
					pin deliver.Pin
					err error
				}
				answers := make(chan answer, 1)
				a.Host.Machine.Fault = func(string) error {
					if passed.Add(1) == at {
						go func() {
							_, pin, err := a.Keep(t.Context(), "web", "ann")
							answers <- answer{pin, err}
						}()
						synctest.Wait()
					}
					return nil
				}
				a.set("app/db", "two")
				settle()
				points = passed.Load()
				got := <-answers
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"), "%s, point %d", strategy, at)
				pin, pinned := a.Store.Pinned(a.Container(t, "web").ID)
				if got.err != nil {
					assert.ErrorIs(t, got.err, reconcile.ErrChangingOver)
					assert.Assert(t, !pinned, "%s, point %d: %+v", strategy, at, pin)
					return
				}
				assert.Assert(t, at > 5, "%s, point %d", strategy, at)
				assert.DeepEqual(t, pin, got.pin)
				assert.DeepEqual(t, pin.Versions, secret.Versions{id("app/db"): "2"})
			})
		}
		assert.Assert(t, points > 5)
	}
}

// A rotation that is planned already does not see the pin, and ends it: whoever asked is
// told.
func TestKeep_WhileARotationIsPlannedIsRefused(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		planned := make(chan error, 1)
		var asked sync.Once
		a.Ports = func(engine.Container) ([]uint16, error) {
			asked.Do(func() {
				go func() {
					_, _, err := a.Keep(t.Context(), "web", "ann")
					planned <- err
				}()
				synctest.Wait()
				pin, _ := a.Store.Pinned(a.Container(t, "web").ID)
				assert.Equal(t, pin.By, "ann", "it is there, and nobody has looked")
			})
			return nil, nil
		}
		a.up(t, "web", usesDB)
		a.run(t)
		a.set("app/db", "two")
		settle()
		assert.ErrorIs(t, <-planned, reconcile.ErrChangingOver)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestKeep_OfNoContainer(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.run(t)
		for _, name := range []string{"", "nothing"} {
			_, _, err := a.Keep(t.Context(), name, "ann")
			assert.ErrorIs(t, err, reconcile.ErrNoContainer)
			_, err = a.LetGo(t.Context(), name)
			assert.ErrorIs(t, err, reconcile.ErrNoContainer)
		}
	})
}
