package rotation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// meddledAt rotates a version that works, with something done to the container that is
// to serve, at a point.
func (c change) meddledAt(t *testing.T, point string, meddle func(s *scene, id string)) *scene {
	t.Helper()
	s := c.arrange(t)
	done := false
	s.onPoint(func(at string) error {
		if at == string(c.strategy)+"/forward/"+point && !done {
			done = true
			time.Sleep(100 * time.Millisecond) // in the bubble it was started in this instant
			meddle(s, s.entry.Serving())
		}
		return nil
	})
	assert.NilError(t, s.rotate(context.Background()))
	assert.Assert(t, done)
	return s
}

// inPlace are the kinds of rotation that have a gate and a watch.
var inPlace = []string{"rolling behind a front", "rolling with an anonymous volume", "restart with a sidecar", "files and a signal", "files and a command"}

func TestMachine_ContainerThatIsStoppedFromOutsideSaysNothingAboutItsVersion(t *testing.T) {
	for _, name := range inPlace {
		for _, point := range []string{"gate/before", "watch/before"} {
			t.Run(name+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := kind(name, false).meddledAt(t, point, func(s *scene, id string) { _ = s.Engine.Stop(context.Background(), id) })
					s.startFailed(t)
					s.check(t, rotation.OutcomeRolledBack)
					e := s.ended(t)
					assert.Assert(t, !e.Unfit && e.RetryLater(), e.ErrorMessage)
					assert.ErrorContains(t, errors.New(e.ErrorMessage), "it was stopped from outside: ")
				})
			})
		}
	}
}

// The engine stops its containers before it is gone. The rotation waits for it, touches
// nothing meanwhile, and goes on.
func TestMachine_EngineThatGoesDownIsWaitedFor(t *testing.T) {
	for _, name := range inPlace {
		for _, point := range []string{"gate/before", "watch/before"} {
			t.Run(name+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var before, after int
					s := kind(name, false).meddledAt(t, point, func(s *scene, _ string) {
						s.Engine.ShutDown()
						before = len(s.Engine.Calls())
						time.AfterFunc(3*time.Second, func() {
							after = len(s.Engine.Calls())
							s.Engine.RestartEngine()
						})
					})
					s.startFailed(t)
					s.check(t, rotation.OutcomeRotated)
					assert.Equal(t, after, before, "%v", s.Engine.Calls())
				})
			})
		}
	}
}

// It may refuse a start for its own sake, too.
func TestMachine_StartThatAnEngineRefusesWhichGoesDownIsTriedAgain(t *testing.T) {
	for name, call := range map[string]string{"rolling behind a front": "Start", "restart with a sidecar": "Restart"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kind(name, false).meddledAt(t, strings.ToLower(call)+"/before", func(s *scene, _ string) {
					s.Engine.ShutDown()
					s.Engine.Fail(call, errors.New("failed to create task"))
					time.AfterFunc(3*time.Second, s.Engine.RestartEngine)
				})
				s.startFailed(t)
				s.check(t, rotation.OutcomeRotated)
			})
		})
	}
}

func TestMachine_ContainerThatEndsByItselfSaysThatItsVersionDoesNotWork(t *testing.T) {
	for _, point := range []string{"gate/before", "watch/before"} {
		for name, unknown := range map[string]error{"": nil, ", and what was done to it is not known": errors.New("the engine has no history")} {
			t.Run(point+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := kind("rolling behind a front", false).meddledAt(t, point, func(s *scene, id string) {
						s.Engine.Kill(id)
						if unknown != nil {
							s.Engine.Fail("Signals", unknown)
						}
					})
					s.check(t, rotation.OutcomeRolledBack)
					assert.Assert(t, s.ended(t).Unfit)
				})
			})
		}
	}
}

// What the strategy itself stops, it stops before the container is started again.
func TestMachine_OwnRestartIsNotFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kind("restart with a sidecar", true).arrange(t)
		assert.NilError(t, s.rotate(context.Background()))
		s.check(t, rotation.OutcomeRolledBack)
		assert.Assert(t, s.ended(t).Unfit)
	})
}

// A process that was told to end may go on for a while, and answer no health check.
func TestMachine_ContainerThatBecomesUnhealthyWhileItEndsIsNotUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kind("rolling behind a front", true).meddledAt(t, "gate/before", func(s *scene, id string) {
			s.Engine.Tell(id, unix.SIGTERM)
		})
		s.check(t, rotation.OutcomeRolledBack)
		assert.Assert(t, !s.ended(t).Unfit)
	})
}

// An engine that was restarted remembers nothing, and does not start every container again.
func TestMachine_ContainerThatTheEngineDoesNotStartAgainIsStarted(t *testing.T) {
	for _, point := range []string{"gate/before", "watch/before"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := kind("rolling behind a front", false)
				c.options = append(c.options, hosttest.Policy(container.RestartPolicyDisabled))
				s := c.meddledAt(t, point, func(s *scene, _ string) {
					s.Engine.ShutDown()
					s.Engine.SetDown(true)
					time.AfterFunc(3*time.Second, func() {
						s.Engine.RestartEngine()
						s.Engine.SetDown(false)
					})
				})
				s.check(t, rotation.OutcomeRotated)
			})
		})
	}
}

func TestMachine_EngineThatIsGoneBeforeItTellsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kind("rolling behind a front", false).meddledAt(t, "gate/before", func(s *scene, _ string) {
			s.Engine.ShutDown()
			s.Engine.Fail("Signals", errdefs.ErrUnavailable)
			time.AfterFunc(3*time.Second, s.Engine.RestartEngine)
		})
		s.check(t, rotation.OutcomeRotated)
	})
}

func TestMachine_ReplacementThatIsStoppedWithTheOriginalGoneIsNotUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := disturbed()[0]
		assert.Equal(t, c.rescue, rotation.Adopt)
		s := c.arrange(t)
		done := false
		s.onPoint(func(at string) error {
			if at == "rolling/adopt/gate/before" && !done {
				done = true
				return s.Engine.Stop(context.Background(), s.entry.NewContainerID)
			}
			return nil
		})
		assert.NilError(t, s.rotate(context.Background()))
		e := s.ended(t)
		assert.Assert(t, done)
		assert.Equal(t, e.Outcome, rotation.OutcomeRecreated, e.ErrorMessage)
		assert.Assert(t, e.RetryLater())
	})
}

func TestSignal_SaysWhetherTheProcessIsToldToEnd(t *testing.T) {
	config := func(signal string) *container.Config { return &container.Config{StopSignal: signal} }
	for _, tc := range []struct {
		cfg    *container.Config
		signal unix.Signal
		want   bool
	}{
		{nil, unix.SIGTERM, true},
		{nil, unix.SIGKILL, true},
		{nil, unix.SIGHUP, false},
		{config(""), unix.SIGUSR1, false},
		{config("SIGQUIT"), unix.SIGQUIT, true},
		{config("SIGWINCH"), unix.SIGWINCH, true},
		{config("winch"), unix.SIGWINCH, true},
		{config("28"), unix.SIGWINCH, true},
		{config("SIGRTMIN+3"), 37, true},
		{config("SIGTERM"), unix.SIGWINCH, false},
	} {
		assert.Equal(t, rotation.Ends(tc.cfg, tc.signal), tc.want, "%v %v", tc.cfg, tc.signal)
	}
}

var _ rotation.Engine = (*engine.Client)(nil)
