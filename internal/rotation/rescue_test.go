package rotation_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// replacementOf returns the container that the rotation made beside the original.
func (s *scene) replacementOf() (engine.Container, bool) {
	for _, c := range s.Engine.All() {
		if c.Label("dso.rotation") == s.entry.ID {
			return c, true
		}
	}
	return engine.Container{}, false
}

// meddling is what a person does in the middle of a rotation.
var meddling = map[string]func(s *scene){
	"docker rm -f of the original": func(s *scene) { _ = s.Engine.Remove(context.Background(), s.original.ID) },
	"docker rm -f of the replacement": func(s *scene) {
		if c, ok := s.replacementOf(); ok {
			_ = s.Engine.Remove(context.Background(), c.ID)
		}
	},
	"docker compose down": func(s *scene) {
		for _, c := range s.Engine.All() {
			_ = s.Engine.Remove(context.Background(), c.ID)
		}
	},
	"docker stop of the original": func(s *scene) {
		s.stopped = true
		_ = s.Engine.Stop(context.Background(), s.original.ID)
	},
	"docker restart of the original": func(s *scene) { _ = s.Engine.Restart(context.Background(), s.original.ID) },
	"docker rename of the original":  func(s *scene) { _ = s.Engine.Rename(context.Background(), s.original.ID, "elsewhere") },
	"docker rename of the replacement": func(s *scene) {
		if c, ok := s.replacementOf(); ok {
			_ = s.Engine.Rename(context.Background(), c.ID, "elsewhere")
		}
	},
	"docker restart of the replacement": func(s *scene) {
		if c, ok := s.replacementOf(); ok && c.Running() {
			_ = s.Engine.Restart(context.Background(), c.ID)
		}
	},
	"docker compose up takes the name": func(s *scene) { s.takeName() },
	"docker rename and docker compose up": func(s *scene) {
		_ = s.Engine.Rename(context.Background(), s.original.ID, "elsewhere")
		s.takeName()
	},
}

// takeName makes a container with the original's name, if that is free.
func (s *scene) takeName() {
	ctx := context.Background()
	if id, err := s.Engine.Create(ctx, "web", hosttest.Spec(s.options...)); err == nil {
		s.theirs = id
		_ = s.Engine.Start(ctx, id)
	}
}

func TestRescue_PersonMayMeddleAtAnyPoint(t *testing.T) {
	var each hosttest.Cases
	for _, c := range undisturbed() {
		for _, point := range c.points(t) {
			for _, what := range slices.Sorted(maps.Keys(meddling)) {
				each.Run(t, c.String()+"/"+point+"/"+what, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := c.arrange(t)
						done := false
						s.onPoint(func(at string) error {
							if at == point && !done {
								done = true
								meddling[what](s)
							}
							return nil
						})
						assert.NilError(t, s.rotate(context.Background()))
						s.checkMeddled(t)
					})
				})
				each.Run(t, c.String()+"/"+point+"/killed, "+what, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := c.arrange(t)
						assert.Assert(t, s.rotateUntil(point))
						s.boot(t)
						meddling[what](s)
						s.recoverPending(t)
						s.checkMeddled(t)
					})
				})
			}
		}
	}
}

// checkMeddled asserts what holds however a person meddled: nothing of ours is
// left over, and what has the place is healthy.
func (s *scene) checkMeddled(t *testing.T) {
	t.Helper()
	if c, err := s.Engine.Inspect(context.Background(), "web"); err == nil && strings.Contains(c.State.Error, "dso: ") {
		assert.NilError(t, s.Engine.Start(context.Background(), "web")) // as the controller does
	}
	time.Sleep(5 * time.Second)
	e := s.ended(t)
	assert.Assert(t, e.Status != rotation.StatusCritical, "%s", e.ErrorMessage)
	serving := 0
	for _, c := range s.Engine.All() {
		assert.Assert(t, !strings.Contains(c.Name, "_dso_"), "%s is left over (%s: %s)", c.Name, e.Outcome, e.ErrorMessage)
		if c.Name == "sidecar" {
			continue
		}
		serving++
		if s.stopped && c.ID == s.original.ID && !c.Running() {
			continue // what a person stops when it has its place again stays stopped
		}
		assert.Assert(t, c.Running(), "%s is %s (%s: %s)", c.Name, c.State.Status, e.Outcome, e.ErrorMessage)
		assert.Assert(t, c.Spec.HostConfig.RestartPolicy.Name != container.RestartPolicyDisabled, "%s is parked", c.Name)
		if c.ID != s.theirs {
			assert.Equal(t, c.State.Health, container.Healthy)
		}
		if _, pinned := s.Store.Pinned(c.ID); pinned {
			assert.Assert(t, e.Unfit, "%s is still pinned", c.Name)
		}
		if s.entry.Front != nil && s.theirs == "" && e.Outcome != rotation.OutcomeGone {
			assert.DeepEqual(t, s.Fronts.Targets(s.entry.Front.Key), []string{c.ShortID()})
		}
	}
	most := 1
	if s.theirs != "" && (s.strategy != rotation.Rolling || e.Outcome == rotation.OutcomeRolledBack || e.Outcome == rotation.OutcomeRotated) {
		most = 2 // a person renamed the container that had its place
	}
	assert.Assert(t, serving <= most, "%d containers", serving)
	if s.theirs != "" {
		assert.Assert(t, s.Container(t, s.theirs).Running(), "theirs is kept")
	}
	if serving == 0 {
		gone := e.Outcome == rotation.OutcomeGone || e.Outcome == rotation.OutcomeRotated || e.Outcome == rotation.OutcomeRolledBack
		assert.Assert(t, gone, "%s", e.Outcome)
	}
}

func TestRescue_ImageThatIsGoneIsForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := kind("rolling behind a front", true)
		s := c.arrange(t)
		var log strings.Builder
		s.Log = slog.New(slog.NewJSONHandler(&log, nil))
		s.boot(t)
		s.onPoint(func(point string) error {
			if point == "rolling/back/pin/after" {
				s.Engine.RemoveImage(hosttest.Image)
				s.Engine.RemoveImage("sha256:one")
				return s.Engine.Remove(context.Background(), s.original.ID)
			}
			return nil
		})
		assert.NilError(t, s.rotate(context.Background()))
		e := s.ended(t)
		assert.Equal(t, e.Status, rotation.StatusCritical)
		assert.Equal(t, e.StuckStep, rotation.StepRecreate)
		for _, want := range []string{`"level":"ERROR","msg":"CRITICAL: Original container is missing"`, `"command":"docker pull app:1 && docker dso recover web"`, `"image":"app:1"`} {
			assert.Assert(t, strings.Contains(log.String(), want), log.String())
		}

		s.Engine.AddImage(hosttest.Image, enginetest.Image{ID: "sha256:one"})
		s.onPoint(nil)
		assert.NilError(t, s.Machine.Again(&e))
		assert.NilError(t, s.Machine.Run(context.Background(), &e))
		s.checkMeddled(t)
		assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeRecreated)
		has, _, _ := s.Store.Delivered(s.Container(t, "web").ID)
		assert.DeepEqual(t, has, old)
	})
}

func TestRescue_NeitherIsLeftWhenTheAgentComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := changes()[1].arrange(t) // no Compose project
		assert.Assert(t, s.rotateUntil("rolling/forward/watch/before"))
		s.boot(t)
		meddling["docker compose down"](s)
		s.recoverPending(t)
		assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeRecreated)
		c := s.Container(t, "web")
		assert.Equal(t, c.State.Health, container.Healthy)
		assert.DeepEqual(t, c.Mounts, s.original.Mounts)
		assert.DeepEqual(t, c.Spec.Config.Env, s.original.Spec.Config.Env) // references, never values
	})
}

func TestRescue_FilesOfAContainerThatIsGoneAreNotWaitedFor(t *testing.T) {
	for _, point := range []string{"none/forward/assign/before", "none/forward/refresh/before"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kind("files only", false).arrange(t)
				s.onPoint(func(at string) error {
					if at != point {
						return nil
					}
					assert.Check(t, s.Engine.Remove(t.Context(), s.original.ID))
					return s.Store.Forget(s.original.ID) // as the controller does when it hears of it
				})
				begun := time.Now()
				assert.NilError(t, s.rotate(t.Context()))
				assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeGone)
				assert.Assert(t, time.Since(begun) < 5*time.Second)
				for _, id := range []string{s.entry.OriginalContainerID, s.entry.NewContainerID, s.entry.RecreatedID} {
					pin, pinned := s.Store.Pinned(id)
					assert.Assert(t, !pinned || len(pin.Failed) > 0, "%s is held", id)
				}
			})
		})
	}
}

// Whoever removes also what was made again gets rid of all of it.
func TestRescue_RecreatedThatIsRemovedTakesTheReplacementAlong(t *testing.T) {
	for _, point := range []string{"rolling/recreate/pin/before", "rolling/recreate/gate-old/before", "rolling/recreate/gate-old/after", "rolling/recreate/remove-replacement/before"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := disturbed()[1]
				assert.Equal(t, c.rescue, rotation.Recreate)
				s := c.arrange(t)
				done := false
				s.onPoint(func(at string) error {
					if at == point && !done {
						done = true
						return s.Engine.Remove(t.Context(), "web")
					}
					return nil
				})
				assert.NilError(t, s.rotate(t.Context()))
				assert.Assert(t, done)
				assert.Equal(t, len(s.Engine.All()), 0)
				for _, id := range []string{s.entry.OriginalContainerID, s.entry.NewContainerID, s.entry.RecreatedID} {
					pin, pinned := s.Store.Pinned(id)
					assert.Assert(t, !pinned || len(pin.Failed) > 0, "%s is held", id)
				}
				assert.Assert(t, s.ended(t).Status != rotation.StatusCritical)
			})
		})
	}
}

// The replacement is bad, but it is all that is left of the place: it goes only when
// the original is there again.
func TestRescue_OriginalRemovedLateOnTheWayBackIsMadeAgain(t *testing.T) {
	for _, point := range []string{"rolling/back/name-back/after", "rolling/back/remove-replacement/recorded", "rolling/back/remove-replacement/before"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kind("rolling behind a front", true).arrange(t)
				done := false
				s.onPoint(func(at string) error {
					if at == point && !done {
						done = true
						assert.Check(t, s.Engine.Remove(t.Context(), s.original.ID))
					}
					return nil
				})
				assert.NilError(t, s.rotate(t.Context()))
				assert.Assert(t, done)
				s.checkMeddled(t)
				assert.Equal(t, s.ended(t).Outcome, rotation.OutcomeRecreated)
				has, _, _ := s.Store.Delivered(s.Container(t, "web").ID)
				assert.DeepEqual(t, has, old)
			})
		})
	}
}
