package reconcile_test

import (
	"errors"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/window"
)

// nightly runs a test at midnight, with rotations from 2 to 4 only.
func nightly(t *testing.T, test func(t *testing.T, a *agent)) {
	t.Helper()
	onHost(t, func(t *testing.T, a *agent) {
		w, err := window.Parse("CRON_TZ=UTC 0 2 * * *", 2*time.Hour)
		assert.NilError(t, err)
		a.window.Store(&w)
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		test(t, a)
	})
}

// until waits until a time of the first of January 2000, when the clock of a bubble
// begins.
func until(hour, minute int) {
	time.Sleep(time.Until(time.Date(2000, 1, 1, hour, minute, 0, 0, time.UTC)))
}

func TestWindow_HoldsBackUntilItOpens(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.set("app/db", "two")
		until(1, 59)
		assert.Equal(t, len(a.Journal.All()), 0)
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, !rows[0].UpToDate)
		assert.Assert(t, rows[0].HeldUntil.Equal(time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)), "%s", rows[0].HeldUntil)
		until(2, 1)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		assert.Equal(t, a.Journal.All()[0].Cause, "rotation.window opened")
		rows, err = a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, rows[0].UpToDate && rows[0].HeldUntil.IsZero())

		a.set("app/db", "three")
		until(2, 5)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"), "it is open")
		until(4, 0)
		a.set("app/db", "four")
		until(23, 0)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("3"), "it is closed again")
		until(26, 1)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("4"))
	})
}

func TestWindow_HoldsBackAcrossAgents(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.set("app/db", "two")
		settle()
		for range 3 {
			a = a.again(t)
			a.run(t)
			settle()
			assert.Equal(t, len(a.Journal.All()), 0)
		}
		until(2, 1)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestWindow_OpensWhileNoAgentRuns(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.set("app/db", "two")
		settle()
		a.stop()
		until(3, 0)
		a = a.again(t)
		a.run(t)
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestWindow_WhatAPersonAsksForGoesThroughWithAWord(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.Secrets.Set("app/db", "two")
		results, err := a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Cause: "secret set"})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Outcome, rotation.Outcome(""))
		assert.Equal(t, results[0].Error, "held back by rotation.window until 2000-01-01 02:00 UTC; docker dso rotate web does it now")

		results, err = a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Force: true, Cause: "requested"})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Outcome, rotation.OutcomeRotated)
		assert.Equal(t, results[0].Note, "outside of rotation.window, because it was asked for")

		until(2, 1)
		results, err = a.Sync(t.Context(), reconcile.Target{Secret: id("app/db"), Force: true})
		assert.NilError(t, err)
		assert.Equal(t, results[0].Note, "")
	})
}

func TestWindow_WhatBeganIsFinished(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		names := []string{"app-web-1", "app-web-2", "app-web-3"}
		for _, name := range names {
			a.up(t, name, usesDB, hosttest.Service("app", "web"))
		}
		a.run(t)
		until(3, 59)
		time.Sleep(59 * time.Second)
		a.set("app/db", "two") // each takes seconds
		until(4, 5)
		for _, name := range names {
			assert.Equal(t, a.has(t, name, "app/db"), secret.Version("2"), name)
		}
	})
}

func TestWindow_NoNewTryOutsideOfIt(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		rotations := a.counted()
		a.run(t)
		for range 1000 {
			a.Host.Engine.Fail("Create", errors.New("no space left on device"))
		}
		until(3, 0)
		a.set("app/db", "two")
		until(4, 1)
		before := rotations()["web"]
		assert.Assert(t, before > 1)
		until(25, 59)
		assert.Equal(t, rotations()["web"], before)
		until(27, 0)
		assert.Assert(t, rotations()["web"] > before)
	})
}

func TestWindow_AnotherConfigurationOpensIt(t *testing.T) {
	nightly(t, func(t *testing.T, a *agent) {
		a.run(t)
		a.set("app/db", "two")
		settle()
		a.window.Store(&window.Window{})
		a.Watch.Tell()
		settle()
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}
