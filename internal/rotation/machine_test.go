package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/rotation"
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
		s.Engine.RestartEngine()
	},
	"the engine restarts while no agent answers": func(t *testing.T, s *scene) {
		s.Die()
		s.Engine.RestartEngine()
		s.boot(t)
	},
	"a minute passes": func(t *testing.T, s *scene) {
		time.Sleep(time.Minute)
		s.boot(t)
	},
}

func TestMachine_KilledAtAnyPointIsFinishedByTheNextAgent(t *testing.T) {
	covered := 0
	for _, c := range changes() {
		for _, point := range c.points(t) {
			for meanwhile, happens := range afterDeath {
				covered++
				t.Run(c.String()+"/"+point+"/"+meanwhile, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := c.arrange(t)
						assert.Assert(t, s.rotateUntil(point))
						happens(t, s)
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
		if s.Container(t, "sidecar").State.StartedAt.Before(s.Container(t, "web").State.StartedAt) {
			assert.NilError(t, s.Engine.Restart(t.Context(), "sidecar"))
		}
	}
}

func TestMachine_KilledTwiceIsFinishedByTheThirdAgent(t *testing.T) {
	for _, c := range changes() {
		points := c.points(t)
		for i, point := range points {
			again := points[min(i+2, len(points)-1)]
			t.Run(fmt.Sprintf("%s/%s, then %s", c, point, again), func(t *testing.T) {
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
	for _, c := range changes() {
		for _, point := range c.points(t) {
			if strings.HasSuffix(point, "/recorded") {
				continue
			}
			t.Run(c.String()+"/"+point, func(t *testing.T) {
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
	for _, c := range changes() {
		for _, point := range c.points(t) {
			if !strings.HasSuffix(point, "/recorded") {
				continue
			}
			t.Run(c.String()+"/"+point, func(t *testing.T) {
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
	for _, c := range changes() {
		for _, point := range c.points(t) {
			t.Run(c.String()+"/"+point, func(t *testing.T) {
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
