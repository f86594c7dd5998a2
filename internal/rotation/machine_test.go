package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// file makes a name of words.
func file(words string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(words)
}

// Golden files are written anew with -update.
func TestMachine_TellsTheStoryOfEveryStrategy(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := c.arrange(t)
				golden.Assert(t, s.trace(t), file(c.String())+".golden")
				s.check(t, c.outcome())
			})
		})
	}
}

// afterDeath are the things that may happen between an agent's death and the
// next agent.
var afterDeath = map[string]func(t *testing.T, s *scene){
	"nothing": func(t *testing.T, s *scene) { s.boot(t) },
	"the engine restarts": func(t *testing.T, s *scene) {
		s.boot(t)
		s.restartEngine()
	},
	"the engine restarts while no agent answers": func(t *testing.T, s *scene) {
		s.Die()
		s.restartEngine()
		s.boot(t)
	},
	"the newest journal is lost": func(t *testing.T, s *scene) {
		if err := os.Rename(s.JournalPath()+".last", s.JournalPath()); !errors.Is(err, fs.ErrNotExist) {
			assert.NilError(t, err) // without a generation before, nothing but the intent was there
		}
		s.boot(t)
	},
	"a minute passes": func(t *testing.T, s *scene) {
		time.Sleep(time.Minute)
		s.boot(t)
	},
}

func (s *scene) restartEngine() {
	s.restarted = true
	s.Engine.RestartEngine()
}

func TestMachine_KilledAtAnyPointIsFinishedByTheNextAgent(t *testing.T) {
	var each hosttest.Cases
	covered := 0
	for _, c := range changes() {
		for _, point := range c.points(t) {
			for _, meanwhile := range slices.Sorted(maps.Keys(afterDeath)) {
				covered++
				each.Run(t, c.String()+"/"+point+"/"+meanwhile, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := c.arrange(t)
						assert.Assert(t, s.rotateUntil(point))
						afterDeath[meanwhile](t, s)
						s.recoverPending(t)
						s.startFailed(t)
						s.check(t, c.outcome())
					})
				})
			}
		}
	}
	t.Logf("%d deaths", covered)
}

// startFailed is the part of the controller that matters after an engine
// restarted with nobody to answer it.
func (s *scene) startFailed(t *testing.T) {
	c := s.Container(t, "web")
	if !c.Running() && strings.Contains(c.State.Error, "dso: ") {
		assert.NilError(t, s.Engine.Start(t.Context(), c.ID))
	}
	if s.sidecar { // it follows the container that it lives in
		sidecar := s.Container(t, "sidecar")
		if !sidecar.Running() || sidecar.State.StartedAt.Before(s.Container(t, "web").State.StartedAt) {
			assert.NilError(t, s.Engine.Restart(t.Context(), "sidecar"))
		}
	}
}

func TestMachine_KilledTwiceIsFinishedByTheThirdAgent(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		points := c.points(t)
		for i, point := range points {
			again := points[min(i+2, len(points)-1)]
			each.Run(t, fmt.Sprintf("%s/%s, then %s", c, point, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					assert.Assert(t, s.rotateUntil(point))
					s.boot(t)
					s.recoverUntil(again)
					s.boot(t)
					s.recoverPending(t)
					s.check(t, c.outcome())
				})
			})
		}
	}
}

func (s *scene) recoverUntil(point string) {
	s.onPoint(func(at string) error {
		if at == point {
			panic(died{at})
		}
		return nil
	})
	defer func() { _ = recover() }()
	for _, e := range s.Journal.Pending() {
		e.Recovered = true
		_ = s.Machine.Run(context.Background(), &e)
	}
}

func TestMachine_AnyEffectMayFailOnce(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for _, point := range c.points(t) {
			if strings.HasSuffix(point, "/recorded") {
				continue
			}
			each.Run(t, c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					failed := false
					s.onPoint(func(at string) error {
						if at == point && !failed {
							failed = true
							return errors.New("injected")
						}
						return nil
					})
					assert.NilError(t, s.rotate(context.Background()))
					assert.Assert(t, failed)
					s.check(t, s.outcomeAfterFailure(point))
				})
			})
		}
	}
}

// outcomeAfterFailure: until the original is retired a failure leads back, from
// then on the step is tried again.
func (s *scene) outcomeAfterFailure(point string) rotation.Outcome {
	for _, step := range []string{"stop", "remove", "release"} {
		if strings.Contains(point, "/forward/"+step+"/") {
			return s.outcome()
		}
	}
	return rotation.OutcomeRolledBack
}

func TestMachine_RecordThatCannotBeWrittenIsTriedByTheNextRun(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for _, point := range c.points(t) {
			if !strings.HasSuffix(point, "/recorded") {
				continue
			}
			each.Run(t, c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					s.onPoint(func(at string) error {
						if at == point {
							return errors.New("no space left")
						}
						return nil
					})
					assert.ErrorContains(t, s.rotate(context.Background()), "no space left")
					s.onPoint(nil)
					s.recoverPending(t)
					s.check(t, c.outcome())
				})
			})
		}
	}
}

func TestMachine_SigtermParksAtAStepBoundary(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for _, point := range c.points(t) {
			each.Run(t, c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					s.onPoint(func(at string) error {
						if at == point {
							cancel()
						}
						return nil
					})
					err := s.rotate(ctx)
					if len(s.Journal.Pending()) == 0 {
						assert.NilError(t, err, "a rotation that is over is not parked")
					} else {
						assert.ErrorIs(t, err, rotation.ErrParked)
						assert.Equal(t, s.Journal.Pending()[0].Step, s.entry.Step)
					}
					s.boot(t)
					s.recoverPending(t)
					s.check(t, c.outcome())
				})
			})
		}
	}
}

func TestMachine_SigtermEndsAWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[0].arrange(t)
		ctx, cancel := context.WithCancel(context.Background())
		begun := time.Now()
		time.AfterFunc(300*time.Millisecond, cancel) // in the middle of the gate
		assert.ErrorIs(t, s.rotate(ctx), rotation.ErrParked)
		assert.Equal(t, time.Since(begun), 300*time.Millisecond)
		assert.Equal(t, s.entry.Step, rotation.StepGate)
	})
}

func TestMachine_EngineMayRestartUnderALivingAgent(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for _, point := range c.points(t) {
			each.Run(t, c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					done := false
					s.onPoint(func(at string) error {
						if at == point && !done {
							done = true
							s.restartEngine()
						}
						return nil
					})
					assert.NilError(t, s.rotate(context.Background()))
					assert.Assert(t, done)
					s.startFailed(t)
					s.check(t, c.outcome())
				})
			})
		}
	}
}

func TestMachine_EngineThatIsAwayIsWaitedFor(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for _, point := range c.points(t) {
			if strings.HasSuffix(point, "/recorded") {
				continue
			}
			each.Run(t, c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					done := false
					s.onPoint(func(at string) error {
						if at == point && !done {
							done = true
							s.Engine.SetDown(true)
							time.AfterFunc(20*time.Minute, func() { s.Engine.SetDown(false) })
						}
						return nil
					})
					assert.NilError(t, s.rotate(context.Background()))
					time.Sleep(20 * time.Minute) // a rotation may not have needed it
					s.check(t, c.outcome())
				})
			})
		}
	}
}

func TestMachine_LostAnswerOfTheEngineIsNotAnEffectTwice(t *testing.T) {
	for _, call := range []string{"Create", "Start", "Rename", "SetRestartPolicy", "Stop", "Remove"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := changes()[0].arrange(t)
				s.Engine.FailAfter(call, fmt.Errorf("read the answer: %w", io.ErrUnexpectedEOF))
				assert.NilError(t, s.rotate(context.Background()))
				s.check(t, rotation.OutcomeRotated)
			})
		})
	}
}

func TestMachine_OriginalThatIsBeingRestartedByAPersonIsNoReasonToGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[0].arrange(t)
		for range 3 {
			s.Engine.Fail("SetRestartPolicy", errors.New("cannot update a stopped container"))
		}
		assert.NilError(t, s.rotate(context.Background()))
		s.check(t, rotation.OutcomeRotated)
	})
}

func TestMachine_NetworkThatCannotBeConnectedLeadsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[0].arrange(t)
		s.Engine.FailAfter("Create", errors.New("connect to the second network: not found"))
		assert.NilError(t, s.rotate(context.Background()))
		s.check(t, rotation.OutcomeRolledBack)
	})
}

func TestMachine_ContainerRemovedByAPersonEndsItsRotation(t *testing.T) {
	for _, c := range changes()[:3] {
		t.Run(c.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := c.arrange(t)
				time.AfterFunc(300*time.Millisecond, func() { // as docker compose down does
					for _, ct := range s.Engine.All() {
						assert.Check(t, s.Engine.Remove(context.Background(), ct.ID))
					}
				})
				begun := time.Now()
				assert.NilError(t, s.rotate(context.Background()))
				synctest.Wait() // the person has removed the last one too
				assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeGone)
				assert.Assert(t, time.Since(begun) < 5*time.Second)
				assert.Equal(t, len(s.Engine.All()), 0)
				_, pinned := s.Store.Pinned(s.original.ID)
				assert.Assert(t, !pinned)
			})
		})
	}
}

// Whoever removes the replacement late must not cost the original as well.
func TestMachine_ReplacementRemovedBeforeTheOriginalIsGoneLeadsBack(t *testing.T) {
	for _, point := range []string{"rolling/forward/stop/before", "rolling/forward/remove/before"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := changes()[0].arrange(t)
				s.onPoint(func(at string) error {
					if at == point && s.entry.NewContainerID != "" {
						_ = s.Engine.Remove(context.Background(), s.entry.NewContainerID)
					}
					return nil
				})
				assert.NilError(t, s.rotate(t.Context()))
				time.Sleep(5 * time.Second)
				all := s.Engine.All()
				assert.Equal(t, len(all), 1)
				assert.Equal(t, all[0].ID, s.original.ID)
				assert.Equal(t, all[0].Name, "web")
				assert.Assert(t, all[0].Running())
				assert.DeepEqual(t, all[0].Spec.HostConfig.RestartPolicy, s.original.Spec.HostConfig.RestartPolicy)
			})
		})
	}
}

func TestMachine_NameTakenByAStrangerIsNotTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[0].arrange(t)
		stranger := s.Run(t, s.entry.NewName)
		assert.NilError(t, s.rotate(context.Background()))
		assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeRolledBack)
		assert.Assert(t, s.Container(t, stranger.ID).Running())
		assert.Equal(t, s.Container(t, "web").ID, s.original.ID)
	})
}

func TestMachine_OriginalMadeWithRmIsRotatedAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := changes()[0]
		c.options = append(c.options, hosttest.Policy(container.RestartPolicyDisabled), func(s *engine.Spec) { s.HostConfig.AutoRemove = true })
		s := c.arrange(t)
		assert.NilError(t, s.rotate(context.Background()))
		s.check(t, rotation.OutcomeRotated)
	})
}

func TestMachine_OldConnectionsAreDrained(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(*scene)
		want    time.Duration // from the gate to the stop
	}{
		"none":                {func(s *scene) {}, rotation.DefaultMonitor},
		"one that ends":       {func(s *scene) { time.AfterFunc(6*time.Second, func() { s.Fronts.Connect(s.original.ShortID(), 0) }) }, 5 * time.Second},
		"one that never ends": {func(s *scene) {}, rotation.DefaultMonitor + rotation.DefaultDrain},
		"cannot be counted":   {func(s *scene) { s.Fronts.DrainErr = errors.New("no conntrack") }, rotation.DefaultMonitor + rotation.DefaultDrain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := changes()[0].arrange(t)
				if name != "none" {
					s.Fronts.Connect(s.original.ShortID(), 1)
				}
				tc.arrange(s)
				begun := time.Now()
				assert.NilError(t, s.rotate(context.Background()))
				assert.Equal(t, time.Since(begun).Round(time.Second)-time.Second, tc.want)
				s.check(t, rotation.OutcomeRotated)
			})
		})
	}
}

func TestMachine_GateOfAContainerWithoutAHealthCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		behave enginetest.Behaviour
		probe  error
		want   string
	}{
		"stays up":           {enginetest.Behaviour{}, nil, ""},
		"ends":               {enginetest.Behaviour{ExitAfter: time.Second, ExitCode: 3}, nil, "exit code 3"},
		"listens no more":    {enginetest.Behaviour{}, errors.New("refused"), "does not accept connections on port 5432"},
		"ends between looks": {enginetest.Behaviour{ExitAfter: 40 * time.Millisecond, ExitCode: 1}, nil, "exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := changes()[0].arrange(t)
				s.Behave = func(_ engine.Container, got secret.Versions) enginetest.Behaviour {
					if got[db] == "2" {
						return tc.behave
					}
					return enginetest.Behaviour{HealthyAfter: time.Second}
				}
				s.entry.Ports = []uint16{5432}
				s.Machine.Probe = func(context.Context, engine.Container, uint16) error { return tc.probe }
				assert.NilError(t, s.rotate(context.Background()))
				e := s.ended(t)
				if tc.want == "" {
					assert.Equal(t, e.Outcome, rotation.OutcomeRotated)
					return
				}
				assert.Equal(t, e.Outcome, rotation.OutcomeRolledBack)
				assert.Assert(t, strings.Contains(e.ErrorMessage, tc.want), e.ErrorMessage)
				s.check(t, rotation.OutcomeRolledBack)
			})
		})
	}
}

func TestMachine_LogsWhatItCleansUpAfterAnother(t *testing.T) {
	for point, want := range map[string]string{
		"rolling/forward/stop/after":             `msg="Removing orphaned backup container" backup_id=`,
		"rolling/back/remove-replacement/before": `msg="Removing orphaned new container" new_id=`,
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := changes()[0]
				c.bad = strings.Contains(point, "/back/")
				s := c.arrange(t)
				assert.Assert(t, s.rotateUntil(point))
				var log strings.Builder
				s.Log = slog.New(slog.NewTextHandler(&log, nil))
				s.boot(t)
				s.recoverPending(t)
				assert.Assert(t, strings.Contains(log.String(), want), log.String())
			})
		})
	}
}

func TestMachine_NeitherWayWorkingNeedsAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[2].arrange(t)
		s.Behave = func(engine.Container, secret.Versions) enginetest.Behaviour {
			return enginetest.Behaviour{UnhealthyAfter: time.Second}
		}
		assert.NilError(t, s.rotate(context.Background()))
		e := s.ended(t)
		assert.Equal(t, e.Status, rotation.StatusCritical)
		assert.Equal(t, e.Outcome, rotation.OutcomeFailed)
		assert.Assert(t, s.Container(t, "web").Running())
	})
}

// What is listed is what passes: a point that no rotation of the tests reaches is
// one that nothing was tried at.
func TestPoints_AreThoseThatTheRotationsPass(t *testing.T) {
	passed := map[string]bool{}
	for _, c := range changes() {
		for _, point := range c.points(t) {
			passed[point] = true
		}
	}
	for _, p := range rotation.Points() {
		assert.Check(t, passed[p.String()], "%s is listed and does not pass", p)
		delete(passed, p.String())
	}
	assert.DeepEqual(t, passed, map[string]bool{})
}
