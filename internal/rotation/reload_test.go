package rotation_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func observed(opts ...hosttest.Option) rotation.Observed {
	return rotation.Observed{Container: engine.Container{ID: "c0ffee", Name: "web", Spec: hosttest.Spec(opts...)}, Files: []secret.ID{db}}
}

func TestPlan_SaysWhatIsSentOrRun(t *testing.T) {
	strategy := func(s string) hosttest.Option { return hosttest.Label(label.Strategy, s) }
	plan := func(opts ...hosttest.Option) rotation.Entry {
		e, err := rotation.Plan(observed(opts...), old, next, "", time.Now())
		assert.NilError(t, err)
		return e
	}
	assert.Equal(t, plan(strategy("signal")).Signal, "SIGHUP")
	assert.Equal(t, plan(strategy("signal"), hosttest.Label(label.Signal, "usr1")).Signal, "SIGUSR1")
	assert.DeepEqual(t, plan(strategy("exec"), hosttest.Label(label.Exec, `["nginx", "-s", "reload"]`)).Command, []string{"nginx", "-s", "reload"})
	line := hosttest.Label(label.Exec, "nginx -t && nginx -s reload")
	assert.DeepEqual(t, plan(strategy("exec"), line).Command, []string{"/bin/sh", "-c", "nginx -t && nginx -s reload"})
	bash := func(s *engine.Spec) { s.Config.Shell = []string{"/bin/bash", "-ec"} }
	assert.DeepEqual(t, plan(strategy("exec"), line, bash).Command, []string{"/bin/bash", "-ec", "nginx -t && nginx -s reload"})
	assert.Equal(t, plan(strategy("rolling"), line).Command == nil, true)
}

// A process that is told to read its files anew keeps its environment: the user of
// before with the password of now would be the way to lock an account.
func TestPlan_AReloadThatWouldNotBringASecretIsRefused(t *testing.T) {
	o := observed(hosttest.Label(label.Strategy, "signal"))
	user := secret.ID{Provider: "local", Path: "app/user"}
	o.Fixed = []secret.ID{user}
	from := secret.Versions{db: "1", user: "1"}
	_, err := rotation.Plan(o, from, secret.Versions{db: "2", user: "2"}, "", time.Now())
	assert.ErrorIs(t, err, rotation.ErrPlan)
	assert.ErrorContains(t, err, "local:app/user reaches it in its environment")
	_, err = rotation.Plan(o, from, secret.Versions{db: "2", user: "1"}, "", time.Now())
	assert.NilError(t, err)

	// A start brings everything, and is tried whatever the strategy is.
	e, err := rotation.Tried(o, from, secret.Versions{db: "2", user: "2"}, "", time.Now())
	assert.NilError(t, err)
	assert.Equal(t, e.Strategy, rotation.Restart)
}

// What the engine has seen of the process may be from before the signal.
func TestMachine_GateOfAReloadLooksAnew(t *testing.T) {
	for name, tc := range map[string]struct {
		takes time.Duration // from the signal until the check passes; 0: it never does
		was   container.HealthStatus
		want  rotation.Outcome
	}{
		"at once":                     {time.Nanosecond, container.Healthy, rotation.OutcomeRotated},
		"after a while":               {3 * time.Second, container.Healthy, rotation.OutcomeRotated},
		"never":                       {0, container.Healthy, rotation.OutcomeRolledBack},
		"although it was not healthy": {3 * time.Second, container.Unhealthy, rotation.OutcomeRotated},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kind("files and a signal", false).arrange(t)
				s.Behave = func(engine.Container, secret.Versions) enginetest.Behaviour { return enginetest.Behaviour{} }
				if tc.was == container.Unhealthy {
					s.Engine.OnSignal = func(engine.Container) enginetest.Behaviour {
						return enginetest.Behaviour{UnhealthyAfter: time.Nanosecond}
					}
					assert.NilError(t, s.Engine.Signal(t.Context(), "web", "SIGHUP"))
					time.Sleep(time.Second)
					s.entry.Original = s.Container(t, "web")
					assert.Equal(t, s.entry.Original.State.Health, container.Unhealthy)
					s.Engine.OnSignal = nil
				}
				began := time.Now()
				s.Machine.Check = func(context.Context, engine.Container) error {
					got, _, _ := s.Store.Delivered(s.original.ID)
					if got[db] == "1" || tc.takes > 0 && time.Since(began) >= tc.takes {
						return nil
					}
					return errors.New("exit code 1")
				}
				assert.NilError(t, s.rotate(t.Context()))
				e := s.ended(t)
				assert.Equal(t, e.Outcome, tc.want, e.ErrorMessage)
				if tc.want == rotation.OutcomeRolledBack {
					assert.Assert(t, e.Unfit)
					assert.Assert(t, time.Since(began) >= rotation.DefaultHealth)
				} else {
					assert.Assert(t, time.Since(began) >= tc.takes)
				}
			})
		})
	}
}

func TestMachine_ASignalThatEndsTheProcessLeadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := kind("files and a signal", false)
		c.options = append(c.options, hosttest.Policy(container.RestartPolicyDisabled))
		s := c.arrange(t)
		s.Engine.OnSignal = func(engine.Container) enginetest.Behaviour {
			return enginetest.Behaviour{ExitAfter: time.Millisecond, ExitCode: 129}
		}
		assert.NilError(t, s.rotate(t.Context()))
		e := s.ended(t)
		assert.Equal(t, e.Outcome, rotation.OutcomeRolledBack)
		assert.Assert(t, e.Unfit)
		time.Sleep(5 * time.Second)
		web := s.Container(t, "web")
		assert.Assert(t, web.Running())
		has, _, _ := s.Store.Delivered(web.ID)
		assert.DeepEqual(t, has, old)
	})
}

func TestMachine_ACommandHasADeadlineAndMayFailOnTheWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kind("files and a command", false).arrange(t)
		s.Machine.Engine = hanging{s.Machine.Engine}
		began := time.Now()
		assert.NilError(t, s.rotate(t.Context()))
		e := s.ended(t)
		assert.Equal(t, e.Outcome, rotation.OutcomeRolledBack)
		assert.Equal(t, e.ErrorMessage, "exec: the container does not take the new files: its command did not end within 2m0s")
		assert.Assert(t, e.Unfit)
		assert.Assert(t, time.Since(began) < 3*rotation.DefaultHealth)
		s.check(t, rotation.OutcomeRolledBack)
	})
}

// hanging is an engine whose commands do not end.
type hanging struct{ rotation.Engine }

func (hanging) Exec(ctx context.Context, _ string, _ []string) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestMachine_AContainerRemovedInTheMiddleOfAReloadIsNotMadeAgain(t *testing.T) {
	for _, point := range []string{"signal/forward/signal/before", "signal/forward/watch/before"} {
		synctest.Test(t, func(t *testing.T) {
			s := kind("files and a signal", false).arrange(t)
			s.onPoint(func(at string) error {
				if at == point {
					return s.Engine.Remove(context.Background(), s.original.ID)
				}
				return nil
			})
			assert.NilError(t, s.rotate(t.Context()))
			assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeGone)
			assert.Equal(t, len(s.Engine.All()), 0)
		})
	}
}
