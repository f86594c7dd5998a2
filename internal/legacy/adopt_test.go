package legacy_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/legacy"
	"github.com/docker-secret-operator/dso/internal/secret"
)

type scene struct {
	*hosttest.Host
	*legacy.Adopter
}

// onHost runs a test in a bubble. A container with the label "sick" does not become
// healthy.
func onHost(t *testing.T, test func(t *testing.T, s scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(t)
		h.Behave = func(c engine.Container, _ secret.Versions) enginetest.Behaviour {
			if c.Label("sick") != "" {
				return enginetest.Behaviour{UnhealthyAfter: time.Second}
			}
			return enginetest.Behaviour{HealthyAfter: time.Second}
		}
		no := func(string) bool { return false }
		test(t, scene{h, &legacy.Adopter{Engine: h.Engine, Ours: no, Busy: no, Healthy: h.Machine.AwaitHealthy, Log: slog.New(slog.DiscardHandler)}})
	})
}

func (s scene) names() []string {
	var names []string
	for _, c := range s.Host.Engine.All() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

// stopped makes a container that was stopped.
func (s scene) stopped(t *testing.T, name string, opts ...hosttest.Option) engine.Container {
	t.Helper()
	c := s.Run(t, name, opts...)
	assert.NilError(t, s.Host.Engine.Stop(t.Context(), c.ID))
	return s.Container(t, c.ID)
}

// all plans and does everything, and returns what could not be done.
func (s scene) all(t *testing.T) (failed []error) {
	t.Helper()
	items, err := s.Plan(t.Context())
	assert.NilError(t, err)
	for _, r := range s.Adopt(t.Context(), items) {
		if r.Err != nil {
			failed = append(failed, r.Err)
		}
	}
	return failed
}

func TestAdopt_RemovesCopiesAndKeepsTheirVolumes(t *testing.T) {
	onHost(t, func(t *testing.T, s scene) {
		shared := func(sp *engine.Spec) { sp.HostConfig.Binds = []string{"data:/data"} }
		web := s.Run(t, "web", shared)
		s.stopped(t, old, shared)
		s.Run(t, fresh, shared)
		s.stopped(t, "cache_old_1700000000", hosttest.Label("image", "another"))
		s.Run(t, "cache", func(sp *engine.Spec) { sp.Config.Labels[engine.LabelComposeService] = "cache" })
		time.Sleep(2 * time.Second)
		assert.Equal(t, len(s.all(t)), 0)
		assert.DeepEqual(t, s.names(), []string{"cache", "cache_old_1700000000", "web"})
		assert.Equal(t, s.Container(t, "web").ID, web.ID)
		assert.Equal(t, s.Container(t, "web").State.StartedAt, web.State.StartedAt)
		assert.Equal(t, len(s.all(t)), 0, "again")
	})
}

func TestAdopt_GivesTheNameToWhatBecomesHealthy(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(t *testing.T, s scene)
		want    string // the one that has the name
		left    []string
	}{
		"stopped": {func(t *testing.T, s scene) { s.stopped(t, old) }, old, []string{"web"}},
		"both run": {func(t *testing.T, s scene) {
			s.Run(t, backup)
			s.Run(t, fresh)
		}, backup, []string{"web"}},
		"the one before is sick": {func(t *testing.T, s scene) {
			s.stopped(t, backup, hosttest.Label("sick", "1"))
			s.stopped(t, fresh)
		}, fresh, []string{"web", backup}},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, s scene) {
				tc.arrange(t, s)
				want := s.Container(t, tc.want).ID
				_ = s.all(t)
				web := s.Container(t, "web")
				assert.Equal(t, web.ID, want)
				assert.Equal(t, web.State.Health, container.Healthy)
				slices.Sort(tc.left)
				assert.DeepEqual(t, s.names(), tc.left)
			})
		})
	}
}

func TestAdopt_WhatDoesNotBecomeHealthyIsAsItWas(t *testing.T) {
	onHost(t, func(t *testing.T, s scene) {
		s.stopped(t, backup, hosttest.Label("sick", "1"))
		s.stopped(t, fresh, hosttest.Label("sick", "1"))
		assert.Equal(t, len(s.all(t)), 2)
		assert.DeepEqual(t, s.names(), []string{backup, fresh})
		for _, name := range s.names() {
			assert.Assert(t, !s.Container(t, name).Running(), name)
		}
	})
}

func TestAdopt_LooksAgainBeforeItActs(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s scene){
		"the original is stopped": func(t *testing.T, s scene) { assert.NilError(t, s.Host.Engine.Stop(t.Context(), "web")) },
		"the original is removed": func(t *testing.T, s scene) { assert.NilError(t, s.Host.Engine.Remove(t.Context(), "web")) },
		"it is renamed":           func(t *testing.T, s scene) { assert.NilError(t, s.Host.Engine.Rename(t.Context(), old, "mine")) },
		"a rotation begins":       func(_ *testing.T, s scene) { s.Busy = func(string) bool { return true } },
		"it is a rotation's":      func(_ *testing.T, s scene) { s.Ours = func(string) bool { return true } },
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, s scene) {
				s.Run(t, "web")
				leftover := s.stopped(t, old)
				time.Sleep(2 * time.Second)
				items, err := s.Plan(t.Context())
				assert.NilError(t, err)
				change(t, s)
				results := s.Adopt(t.Context(), items)
				assert.Equal(t, len(results), 1)
				assert.ErrorContains(t, results[0].Err, "ask again")
				assert.Assert(t, !s.Container(t, leftover.ID).Running())
			})
		})
	}
}

// Whatever call fails or whose answer is lost: another run ends it.
func TestAdopt_MayBeRunAgain(t *testing.T) {
	for _, call := range []string{"List", "Inspect", "Start", "Stop", "Rename", "Remove"} {
		for _, after := range []bool{false, true} {
			t.Run(call, func(t *testing.T) {
				onHost(t, func(t *testing.T, s scene) {
					s.Run(t, "api")
					s.stopped(t, "api_old_1700000000")
					s.stopped(t, backup)
					s.stopped(t, fresh)
					time.Sleep(2 * time.Second)
					items, err := s.Plan(t.Context())
					assert.NilError(t, err)
					fail := s.Host.Engine.Fail
					if after {
						fail = s.Host.Engine.FailAfter
					}
					fail(call, errors.New("injected"))
					s.Adopt(context.Background(), items)
					for range 2 { // the first may find one more thing to do
						s.all(t)
					}
					assert.DeepEqual(t, s.names(), []string{"api", "web"})
					assert.Equal(t, s.Container(t, "web").State.Health, container.Healthy)
				})
			})
		}
	}
}
