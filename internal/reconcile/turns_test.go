package reconcile_test

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var four = []string{"app-web-1", "app-web-2", "app-web-3", "app-web-4"}

// fourReplicas brings up a service with labels for how its replicas take turns.
func (a *agent) fourReplicas(t *testing.T, strategy rotation.Strategy, atOnce, delay string) {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	for _, name := range four {
		a.up(t, name, usesDB, hosttest.Service("app", "web"), hosttest.Label(label.Strategy, string(strategy)),
			hosttest.Label(label.AtOnce, atOnce), hosttest.Label(label.Delay, delay), hosttest.Policy(container.RestartPolicyAlways))
	}
}

// turned lists the replicas that have the second version.
func (a *agent) turned(t *testing.T) (names []string) {
	t.Helper()
	for _, name := range four {
		if a.has(t, name, "app/db") == secret.Version("2") {
			names = append(names, name)
		}
	}
	return names
}

func TestTurns_AsManyAtOnceAsTheLabelSaysAndAPauseBetween(t *testing.T) {
	for _, strategy := range []rotation.Strategy{rotation.Rolling, rotation.Restart} {
		t.Run(string(strategy), func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.fourReplicas(t, strategy, "2", "5m")
				a.run(t)
				settle()
				a.set("app/db", "two")
				settle()
				assert.Equal(t, len(a.turned(t)), 2)
				all := a.Journal.All()
				assert.Equal(t, len(all), 2)
				assert.Assert(t, all[0].StartTime.Before(all[1].LastUpdate) && all[1].StartTime.Before(all[0].LastUpdate), "at the same time")
				time.Sleep(5 * time.Minute)
				assert.DeepEqual(t, a.turned(t), four)
				assert.Equal(t, len(a.Journal.Pending()), 0)
			})
		})
	}
}

func TestTurns_AllAtOnce(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.fourReplicas(t, rotation.Rolling, "0", "")
		a.run(t)
		settle()
		a.set("app/db", "two")
		settle()
		assert.DeepEqual(t, a.turned(t), four)
		var first, last time.Time
		for _, e := range a.Journal.All() {
			if first.IsZero() || e.LastUpdate.Before(first) {
				first = e.LastUpdate
			}
			if e.StartTime.After(last) {
				last = e.StartTime
			}
		}
		assert.Assert(t, last.Before(first), "the last began before the first ended")
	})
}

// The pause is not remembered over a restart of the agent: what has not had its turn
// has it then.
func TestTurns_GoOnWithTheNextAgent(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.fourReplicas(t, rotation.Rolling, "3", "1h")
		a.run(t)
		settle()
		a.set("app/db", "two")
		settle()
		assert.Equal(t, len(a.turned(t)), 3)
		next := a.again(t)
		next.run(t)
		settle()
		assert.DeepEqual(t, next.turned(t), four)
	})
}

func TestTurns_ANumberThatIsNoneIsRefused(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.fourReplicas(t, rotation.Rolling, "two", "")
		a.run(t)
		settle()
		a.set("app/db", "two")
		settle()
		assert.Equal(t, len(a.turned(t)), 0)
		assert.Equal(t, len(a.Journal.All()), 0)
	})
}
