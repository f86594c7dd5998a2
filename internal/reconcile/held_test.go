package reconcile_test

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
	"github.com/docker-secret-operator/dso/internal/window"
)

// holding gives web two secrets by targets, of which the first is held back.
func holding(t *testing.T, hold target.Hold, test func(t *testing.T, a *agent)) {
	t.Helper()
	onHost(t, func(t *testing.T, a *agent) {
		rules := target.Rules{Rules: []target.Rule{
			{Containers: []string{"web"}, References: []target.Reference{{Variable: "DB", Ref: "dso://local/app/db", Hold: &hold}}},
			{Containers: []string{"web"}, References: []target.Reference{{Variable: "KEY", Ref: "dso://local/app/key"}}},
		}}
		a.Host.Engine.Targets = rules.For
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/key", "one")
		a.up(t, "web")
		a.run(t)
		test(t, a)
	})
}

func TestHeld_ASecretWithRotationSwitchedOffLeadsToNoneByItself(t *testing.T) {
	holding(t, target.Hold{Off: true}, func(t *testing.T, a *agent) {
		a.set("app/db", "two")
		settle()
		assert.Equal(t, len(a.Journal.All()), 0)
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, !rows[0].UpToDate && rows[0].HeldUntil.IsZero())
		assert.Equal(t, rows[0].Held, "held back by rotation.enabled: false of local:app/db")

		// Another secret's change brings itself and no more.
		a.set("app/key", "two")
		settle()
		assert.Equal(t, a.has(t, "web", "app/key"), secret.Version("2"))
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
		assert.Equal(t, len(a.Journal.All()), 1)

		results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Cause: "secret set"})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Error, "held back by rotation.enabled: false of local:app/db; docker dso rotate web does it now")

		results, err = a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true, Cause: "requested"})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Outcome, rotation.OutcomeRotated)
		assert.Equal(t, results[0].Note, "although rotation.enabled is false for local:app/db, because it was asked for")
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestHeld_AStartBringsWhatIsHeldBack(t *testing.T) {
	holding(t, target.Hold{Off: true}, func(t *testing.T, a *agent) {
		a.set("app/db", "two")
		settle()
		assert.NilError(t, a.Host.Engine.Restart(t.Context(), "web"))
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestHeld_AWindowOfItsOwnOverrulesTheOneOfAll(t *testing.T) {
	holding(t, target.Hold{Cron: "CRON_TZ=UTC 0 2 * * *", Length: time.Hour}, func(t *testing.T, a *agent) {
		a.set("app/db", "two")
		a.set("app/key", "two")
		settle()
		assert.Equal(t, a.has(t, "web", "app/key"), secret.Version("2"), "there is no window for it")
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, rows[0].HeldUntil.Equal(time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)), "%s", rows[0].HeldUntil)
		until(2, 1)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))

		never, err := window.Parse("CRON_TZ=UTC 0 12 29 2 *", time.Hour)
		assert.NilError(t, err)
		a.window.Store(&never)
		a.set("app/db", "three")
		a.set("app/key", "three")
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"), "its own window is open")
		assert.Equal(t, a.has(t, "web", "app/key"), secret.Version("2"))
	})
}

func TestHeld_OfReplicasAllAreChangedForWhatIsNotHeld(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		rules := target.Rules{Rules: []target.Rule{{Containers: []string{"app/web"}, References: []target.Reference{
			{Variable: "DB", Ref: "dso://local/app/db", Hold: &target.Hold{Off: true}},
		}}}}
		a.Host.Engine.Targets = rules.For
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/key", "one")
		names := []string{"app-web-1", "app-web-2", "app-web-3"}
		for _, name := range names {
			a.up(t, name, hosttest.Env("KEY=dso://app/key"), hosttest.Service("app", "web"))
		}
		a.run(t)
		a.set("app/db", "two")
		a.set("app/key", "two")
		settle()
		settle()
		for _, name := range names {
			assert.Equal(t, a.has(t, name, "app/key"), secret.Version("2"), name)
			assert.Equal(t, a.has(t, name, "app/db"), secret.Version("1"), name)
		}
		assert.Equal(t, len(a.Journal.All()), 3)
	})
}
