package reconcile_test

import (
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// A store that tells of a version and does not give its value says nothing about the version:
// the container is neither stopped for it nor pinned, and gets it when it can be read.
func TestUnreadable_VersionStopsNothingAndIsTriedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		opts []hosttest.Option
	}{
		"the store does not answer, rolling":       {provider.ErrMalformed, nil},
		"the store does not answer, in place":      {provider.ErrMalformed, []hosttest.Option{hosttest.Label("dso.update.strategy", "restart")}},
		"the store has another version by now":     {provider.ErrNoVersion, []hosttest.Option{hosttest.Label("dso.update.strategy", "restart")}},
		"the credential may not read it, in place": {provider.ErrDenied, []hosttest.Option{hosttest.Label("dso.update.strategy", "restart")}},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				before := a.up(t, "web", append(tc.opts, usesDB)...)
				var broken atomic.Bool
				a.Secrets.OnGet = func(_ string, v secret.Version) error {
					if broken.Load() && v == "2" {
						return tc.err
					}
					return nil
				}
				broken.Store(true)
				a.run(t)
				a.set("app/db", "two")
				time.Sleep(5 * time.Second)

				for _, force := range []bool{false, true} {
					results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: force})
					assert.NilError(t, err)
					contains(t, results[0].Error, "kept on the versions before: cannot resolve dso://app/db for DB: secret local:app/db version 2: ")
				}
				rows, err := a.Status(t.Context())
				assert.NilError(t, err)
				contains(t, rows[0].Error, "kept on the versions before: cannot resolve dso://app/db for DB: ")
				contains(t, rows[0].Error, "; tried again at ")
				assert.Equal(t, len(a.Journal.All()), 0)
				_, pinned := a.Store.Pinned(before.ID)
				assert.Assert(t, !pinned, "the version did nothing wrong")
				assert.Equal(t, a.Container(t, "web").State.StartedAt, before.State.StartedAt)

				broken.Store(false)
				time.Sleep(time.Minute)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
				rows, err = a.Status(t.Context())
				assert.NilError(t, err)
				assert.Equal(t, rows[0].Error, "")
			})
		})
	}
}

// What is read and is not what the reference asks for is a version that does not work.
func TestUnreadable_ValueThatDoesNotFitIsTheVersionsFault(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", `{"password":"one"}`)
		web := a.up(t, "web", hosttest.Env("DB=dso://app/db#password"))
		a.run(t)
		a.set("app/db", `{"passwort":"two"}`)
		time.Sleep(15 * time.Second)
		pin, pinned := a.Store.Pinned(web.ID)
		assert.Assert(t, pinned)
		assert.DeepEqual(t, pin.Failed, secret.Versions{id("app/db"): "2"})
	})
}

// Nor does one that falls silent between the look before the rotation and the start in it.
func TestUnreadable_InTheMiddleTurnsBackAndIsTriedAgain(t *testing.T) {
	for name, opts := range map[string][]hosttest.Option{
		"rolling": nil, "in place": {hosttest.Label("dso.update.strategy", "restart")},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				a.Secrets.Set("app/db", "one")
				before := a.up(t, "web", append(opts, usesDB)...)
				var reads atomic.Int64
				var broken atomic.Bool
				broken.Store(true)
				a.Secrets.OnGet = func(_ string, v secret.Version) error {
					if v == "2" && reads.Add(1) > 1 && broken.Load() {
						return provider.ErrMalformed
					}
					return nil
				}
				a.run(t)
				a.set("app/db", "two")
				settle()
				entries := a.Journal.All()
				assert.Equal(t, entries[0].Outcome, rotation.OutcomeRolledBack)
				contains(t, entries[0].ErrorMessage, "not started, as its values could not be read: ")
				for _, e := range entries {
					assert.Assert(t, !e.Unfit, "%s", e.ErrorMessage)
				}
				pin, _ := a.Store.Pinned(before.ID)
				assert.Equal(t, len(pin.Failed), 0)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("1"))

				broken.Store(false)
				time.Sleep(20 * time.Minute)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
			})
		})
	}
}
