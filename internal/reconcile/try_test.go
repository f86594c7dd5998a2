package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// startedWith brings up a service, changes its secret while nobody is told, and lets
// the engine restart: everything is started with the new version.
func startedWith(t *testing.T, a *agent, strategy string, bad bool) {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	if bad {
		a.badVersion("2")
	}
	for _, name := range replicas {
		a.up(t, name, usesDB, hosttest.Service("app", "web"), hosttest.Label(label.Strategy, strategy),
			hosttest.Policy(container.RestartPolicyAlways))
	}
	a.Secrets.Set("app/db", "two")
	a.Host.Engine.RestartEngine()
}

func TestTry_WhatTheEngineStartedWithABadVersionGoesBack(t *testing.T) {
	for _, strategy := range []string{label.Rolling, label.Restart} {
		onHost(t, func(t *testing.T, a *agent) {
			startedWith(t, a, strategy, true)
			a.run(t)
			settle()
			a.checkReplicas(t, true)

			// The next version is rotated to, from the one that works.
			a.Secrets.Set("app/db", "three")
			a.set("app/db", "three")
			settle()
			for _, name := range replicas {
				assert.Equal(t, a.has(t, name, "app/db"), secret.Version("4"))
				assert.Equal(t, a.Container(t, name).State.Health, container.Healthy)
			}
		})
	}
}

func TestTry_WhatTheEngineStartedWithAGoodVersionIsLeftAlone(t *testing.T) {
	for _, strategy := range []string{label.Rolling, label.Restart} {
		onHost(t, func(t *testing.T, a *agent) {
			startedWith(t, a, strategy, false)
			before := a.Host.Engine.Calls()
			a.run(t)
			settle()
			for _, call := range a.since(before) {
				assert.Assert(t, !strings.HasPrefix(call, "restart") && !strings.HasPrefix(call, "create"), call)
			}
			a.checkReplicas(t, false)
			for _, e := range a.Journal.All() {
				assert.Equal(t, e.Outcome, rotation.OutcomeRotated)
			}

			// It is tried once: another agent has nothing to do.
			n := len(a.Journal.All())
			a = a.again(t)
			a.run(t)
			settle()
			assert.Equal(t, len(a.Journal.All()), n)
		})
	}
}

func TestTry_AContainerThatIsNeverChangedOverIsNotTried(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		startedWith(t, a, label.None, true)
		a.run(t)
		time.Sleep(time.Minute)
		assert.Equal(t, len(a.Journal.All()), 0)
		for _, name := range replicas {
			assert.Equal(t, a.has(t, name, "app/db"), secret.Version("2"))
		}
	})
}

func TestTry_AgentThatDiesInTheMiddleIsFollowedByOneThatGoesOn(t *testing.T) {
	for _, point := range []string{"forward/gate/recorded", "forward/gate/before", "back/pin/after", "back/restart-old/after", "back/settle/after"} {
		onHost(t, func(t *testing.T, a *agent) {
			startedWith(t, a, label.Rolling, true)
			a.dieOn(moment{"restart/" + point, 1})
			a.run(t)
			settle()
			a = a.again(t)
			a.run(t)
			settle()
			a.checkReplicas(t, true)
		})
	}
}
