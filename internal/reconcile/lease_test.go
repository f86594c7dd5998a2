package reconcile_test

import (
	"fmt"
	"testing"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// An account that a store made for a container can be told once, and with nothing sealed an
// agent that was killed has taken it with it. Then it must be another one, and the service
// must come back with that.
func TestRecover_WithNothingSealedAndEveryLeaseLost(t *testing.T) {
	for name, opts := range map[string][]hosttest.Option{
		"rolling": {usesDB},
		"restart": {usesDB, hosttest.Label(label.Strategy, "restart")},
		"signal":  {hosttest.Env("DB=dsofile://app/db"), hosttest.Label(label.Strategy, "signal")},
	} {
		for _, point := range pointsOf(t, opts...) {
			for _, engineToo := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, engine too %t", name, point, engineToo), func(t *testing.T) {
					loseLeases(t, point, engineToo, opts)
				})
			}
		}
	}
}

func loseLeases(t *testing.T, point string, engineToo bool, opts []hosttest.Option) {
	onHost(t, func(t *testing.T, a *agent) {
		a.NoSeal = true
		a = a.again(t)
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", opts...)
		a.Secrets.Set("app/db", "two")
		a.dieAt(t, "web", point)
		if engineToo {
			a.Die()
			a.Host.Engine.RestartEngine()
		}
		a.Secrets.Set("app/db", "three")
		a.Secrets.OnGet = func(_ string, v secret.Version) error {
			if v == "1" || v == "2" {
				return provider.ErrNoVersion
			}
			return nil
		}
		a = a.again(t)
		a.run(t)
		settle()
		settle()
		assert.DeepEqual(t, a.names(), []string{"web"})
		assert.Equal(t, a.Container(t, "web").State.Health, container.Healthy)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"))
		assert.Equal(t, len(a.Journal.Pending()), 0)
	})
}
