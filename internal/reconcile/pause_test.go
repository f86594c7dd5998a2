package reconcile_test

import (
	"context"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func TestPause_LetsWhatGoesOnEndAndNothingBegin(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, rotation.Rolling, false)
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(2 * time.Second)
		assert.Assert(t, len(a.Journal.Pending()) > 0)
		resume, err := a.Pause(t.Context(), "app")
		assert.NilError(t, err)
		assert.Equal(t, len(a.Journal.Pending()), 0)
		assert.DeepEqual(t, a.names(), replicas)

		before := a.versions(t)
		a.set("app/db", "three")
		a.set("app/db", "four")
		time.Sleep(time.Minute)
		assert.DeepEqual(t, a.versions(t), before)
		resume()
		resume()
		settle()
		for _, name := range replicas {
			assert.Equal(t, a.has(t, name, "app/db"), secret.Version("4"))
			assert.Equal(t, a.Container(t, name).State.Health, container.Healthy)
		}
	})
}

// versions are what each of the replicas has.
func (a *agent) versions(t *testing.T) map[string]secret.Version {
	t.Helper()
	all := map[string]secret.Version{}
	for _, name := range replicas {
		all[name] = a.has(t, name, "app/db")
	}
	return all
}

func TestPause_OfAnotherProjectMatters(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.threeReplicas(t, rotation.Restart, false)
		a.run(t)
		resume, err := a.Pause(t.Context(), "another")
		assert.NilError(t, err)
		defer resume()
		a.set("app/db", "two")
		settle()
		a.checkReplicas(t, false)
	})
}

func TestPause_GivesUpWithItsCaller(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.badVersion("2")
		a.Secrets.Set("app/db", "one")
		a.threeReplicas(t, label.Rolling, false)
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := a.Pause(ctx, "app")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		settle()
		assert.Equal(t, len(a.Journal.Pending()), 0, "they went on")
	})
}
