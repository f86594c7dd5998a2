package reconcile_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// critical is an agent one of whose rotations needs a person: neither the new
// version nor the old one works.
func critical(t *testing.T, a *agent) rotation.Entry {
	t.Helper()
	a.Secrets.Set("app/db", "one")
	a.up(t, "web", usesDB, hosttest.Label(label.Strategy, "restart"))
	a.Behave = func(engine.Container, secret.Versions) enginetest.Behaviour {
		return enginetest.Behaviour{UnhealthyAfter: 500 * time.Millisecond}
	}
	a.run(t)
	a.set("app/db", "two")
	time.Sleep(30 * time.Minute)
	e := a.Journal.All()[0]
	assert.Equal(t, e.Status, rotation.StatusCritical)
	assert.Equal(t, e.StuckStep, rotation.StepGateOld)
	what, why := e.Todo()
	assert.Equal(t, what, "try again from step gate-old")
	contains(t, why, "its health check says unhealthy")
	return e
}

func TestRecover_TriesAgainWhatNeedsAPerson(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		e := critical(t, a)
		before := a.Host.Engine.Calls()
		time.Sleep(time.Hour)
		assert.Equal(t, len(a.since(before)), 0, "not by itself")

		a.Behave = nil // a person repaired it
		assert.NilError(t, a.Host.Engine.Restart(t.Context(), "web"))
		results, err := a.Recover(t.Context(), e.Key())
		assert.NilError(t, err)
		assert.Equal(t, outcomes(results)["web"], rotation.OutcomeRolledBack)
		now := a.Journal.All()[0]
		assert.Equal(t, now.Status, rotation.StatusRecovered)
		assert.Equal(t, now.StuckStep, rotation.Step(""))
	})
}

func TestRecover_WithoutAnythingToDo(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		results, err := a.Recover(t.Context(), "")
		assert.NilError(t, err)
		assert.Equal(t, len(results), 0)
		_, err = a.Recover(t.Context(), "web")
		assert.ErrorIs(t, err, reconcile.ErrNoRotation)
		_, err = a.Mark(t.Context(), "web")
		assert.ErrorIs(t, err, reconcile.ErrNoRotation)
	})
}

func TestRecover_CarriesOnAtOnceWhatIsPending(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		var failing atomic.Bool
		failing.Store(true)
		a.Host.Machine.Fault = func(point string) error {
			if failing.Load() && strings.HasSuffix(point, "/recorded") { // and is tried again after 1, 2, 4, 8 s
				return errors.New("no space left on device")
			}
			return nil
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(10 * time.Second)
		assert.Equal(t, len(a.Journal.Pending()), 1)
		failing.Store(false)
		begun := time.Now()
		results, err := a.Recover(t.Context(), "web")
		assert.NilError(t, err)
		assert.Equal(t, outcomes(results)["web"], rotation.OutcomeRotated)
		assert.Assert(t, time.Since(begun) < 10*time.Second)
	})
}

func TestRecord_ThatFailsIsNotHammered(t *testing.T) {
	for _, recorded := range []bool{false, true} { // whether the journal knew the rotation before the disk was full
		onHost(t, func(t *testing.T, a *agent) {
			a.Secrets.Set("app/db", "one")
			a.up(t, "web", usesDB)
			var full atomic.Bool
			full.Store(true)
			a.Host.Machine.Fault = func(point string) error {
				first := strings.HasSuffix(point, "hold/recorded")
				if full.Load() && strings.HasSuffix(point, "/recorded") && (!recorded || !first) {
					return errors.New("no space left on device")
				}
				return nil
			}
			a.run(t)
			a.set("app/db", "two")
			for range 600 { // somebody keeps telling of changes
				time.Sleep(time.Second)
				select {
				case a.changed <- struct{}{}:
				default:
				}
			}
			tries := strings.Count(a.log.String(), "rotation not carried on")
			assert.Assert(t, tries > 5 && tries < 25, "%d tries in 10 minutes", tries)
			full.Store(false)
			time.Sleep(2 * time.Minute)
			assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
			assert.Equal(t, len(a.Journal.Pending()), 0)
		})
	}
}

func TestMark_EndsARotationAndTouchesNoContainer(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		e := critical(t, a)
		before := a.Host.Engine.Calls()
		got, err := a.Mark(t.Context(), e.Key())
		assert.NilError(t, err)
		assert.Equal(t, got.Status, rotation.StatusRecovered)
		assert.Equal(t, got.Outcome, rotation.OutcomeMarked)
		assert.Equal(t, len(a.since(before)), 0)
		_, err = a.Mark(t.Context(), e.Key())
		assert.ErrorIs(t, err, reconcile.ErrNoRotation)
	})
}

func TestMark_StopsARotationThatRuns(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		web := a.up(t, "web", usesDB)
		a.Behave = func(engine.Container, secret.Versions) enginetest.Behaviour {
			return enginetest.Behaviour{HealthyAfter: time.Hour}
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(10 * time.Second) // at its gate
		begun := time.Now()
		_, err := a.Mark(t.Context(), "web")
		assert.NilError(t, err)
		assert.Assert(t, time.Since(begun) < time.Second)
		e := a.Journal.All()[0]
		assert.Equal(t, e.Outcome, rotation.OutcomeMarked)
		assert.Assert(t, a.Container(t, web.ID).Running())
		assert.Assert(t, a.Container(t, e.NewName).Running(), "no container is touched")
	})
}
