package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var (
	db   = secret.ID{Provider: "local", Path: "app/db"}
	old  = secret.Versions{db: "1"}
	next = secret.Versions{db: "2"}
)

// change is a container whose secret has a new version.
type change struct {
	name     string
	strategy rotation.Strategy
	bad      bool   // the new version does not work
	late     bool   // and shows it only after the gate
	breaks   string // the point at which it fails, whatever the version
	options  []hosttest.Option
	image    enginetest.Image
	sidecar  bool // another container lives in its network
	// At meets, a person does this: nothing but the rescue is left then.
	meets  string
	person func(*scene)
	rescue rotation.Phase
}

func (c change) String() string {
	switch {
	case c.rescue != "":
		return c.name + ", " + string(c.rescue)
	case c.breaks != "":
		return c.name + ", fails after the names are changed"
	case c.late:
		return c.name + ", version that goes bad later"
	case c.bad:
		return c.name + ", bad version"
	}
	return c.name
}

// changes are all the kinds of rotation: each with a version that works, one that
// does not, and a person who takes the original or its place.
func changes() []change { return append(undisturbed(), disturbed()...) }

// kind returns the first change of that name.
func kind(name string, bad bool) change {
	all := undisturbed()
	return all[slices.IndexFunc(all, func(c change) bool { return c.name == name && c.bad == bad })]
}

func undisturbed() []change {
	var all []change
	for _, bad := range []bool{false, true} {
		all = append(all,
			change{
				name: "rolling behind a front", strategy: rotation.Rolling, bad: bad,
				options: []hosttest.Option{hosttest.Env("DB=dso://app/db"), hosttest.Service("app", "web"), hosttest.Label(label.Front, "web-front")},
			},
			change{
				name: "rolling with an anonymous volume", strategy: rotation.Rolling, bad: bad,
				options: []hosttest.Option{hosttest.Env("DB=dso://app/db"), hosttest.Policy(container.RestartPolicyAlways)},
				image:   enginetest.Image{ID: "sha256:data", Volumes: []string{"/data"}},
			},
			change{
				name: "restart with a sidecar", strategy: rotation.Restart, bad: bad, sidecar: true,
				options: []hosttest.Option{hosttest.Env("DB=dso://app/db"), hosttest.Policy(container.RestartPolicyAlways)},
			},
			change{
				name: "files and a signal", strategy: rotation.Signal, bad: bad,
				options: []hosttest.Option{hosttest.Env("DB=dsofile://app/db"), hosttest.Policy(container.RestartPolicyAlways)},
			},
			change{
				name: "files and a command", strategy: rotation.Exec, bad: bad,
				options: []hosttest.Option{hosttest.Env("DB=dsofile://app/db"), hosttest.Label(label.Exec, `["app", "reload"]`)},
			},
			change{
				name: "files only", strategy: rotation.None, bad: bad,
				options: []hosttest.Option{hosttest.Env("DB=dsofile://app/db")},
			})
	}
	for _, c := range all[:5] {
		late := c
		late.bad, late.late = true, true
		all = append(all, late)
	}
	for _, c := range all[:2] {
		breaks := c
		breaks.bad, breaks.breaks = true, "rolling/forward/name-replacement/after"
		all = append(all, breaks)
	}
	return all
}

func disturbed() []change {
	rolling, bad, restart := kind("rolling behind a front", false), kind("rolling behind a front", true), kind("restart with a sidecar", false)
	rolling.meets, restart.meets, bad.meets = "rolling/back/pin/after", "restart/forward/assign/after", "rolling/back/pin/after"
	restart.sidecar = false

	adopt := rolling
	adopt.rescue, adopt.breaks = rotation.Adopt, "rolling/forward/name-original/before"
	adopt.person = func(s *scene) { _ = s.Engine.Remove(context.Background(), s.original.ID) }

	recreate := bad
	recreate.rescue, recreate.person = rotation.Recreate, adopt.person

	yield := rolling
	yield.rescue, yield.breaks = rotation.Yield, "rolling/forward/name-replacement/after"
	yield.person = func(s *scene) {
		_ = s.Engine.Rename(context.Background(), s.entry.NewContainerID, "elsewhere")
		s.takeName()
	}

	// With nothing beside it, an original that somebody removed while the agent was
	// there to see it is not made again.
	restartRecreate := restart
	restartRecreate.rescue = rotation.Recreate
	restartRecreate.person = func(s *scene) {
		s.entry.Recovered = true
		adopt.person(s)
	}

	restartYield := restartRecreate
	restartYield.rescue = rotation.Yield
	restartYield.person = func(s *scene) {
		restartRecreate.person(s)
		s.takeName()
	}
	return []change{adopt, recreate, yield, restartRecreate, restartYield}
}

// scene is a host on which the change is about to be rotated.
type scene struct {
	change
	*hosttest.Host
	original engine.Container
	entry    rotation.Entry
	// restarted says that the engine was restarted: what is not pinned follows the
	// current versions then.
	restarted bool
	met       bool   // the person has done what the change says
	stopped   bool   // a person stopped the original
	theirs    string // the container that a person gave the name
}

var errBad = errors.New("the store has lost this version")

// arrange must be called inside a bubble of synctest.
func (c change) arrange(t *testing.T) *scene {
	t.Helper()
	s := &scene{change: c, Host: hosttest.New(t)}
	if c.image.ID != "" {
		s.Engine.AddImage(hosttest.Image, c.image)
	}
	s.Behave = func(_ engine.Container, got secret.Versions) enginetest.Behaviour {
		if c.bad && c.breaks == "" && c.strategy != rotation.None && got[db] == "2" {
			if c.late {
				return enginetest.Behaviour{HealthyAfter: time.Second, UnhealthyAfter: 1500 * time.Millisecond}
			}
			return enginetest.Behaviour{UnhealthyAfter: 500 * time.Millisecond, ExitCode: 1}
		}
		return enginetest.Behaviour{HealthyAfter: time.Second}
	}
	s.Secrets.Set(db.Path, "first")
	options := append(slices.Clone(c.options), hosttest.Label(label.Strategy, string(c.strategy)))
	web := s.Run(t, "web", options...)
	o := rotation.Observed{Files: []secret.ID{db}}
	if c.sidecar {
		o.Dependants = []string{s.Run(t, "sidecar", func(spec *engine.Spec) {
			spec.HostConfig.NetworkMode = container.NetworkMode("container:" + web.ID)
			spec.Networks = nil
		}).ID}
	}
	time.Sleep(5 * time.Second)
	s.original = s.Container(t, "web")
	if front, _ := s.Fronts.Find(t.Context(), s.original); front != nil {
		o.Front = front
		assert.NilError(t, s.Fronts.Serve(t.Context(), *front, []string{s.original.ShortID()}, nil))
	}
	s.Secrets.Set(db.Path, "second")
	if c.bad && c.strategy == rotation.None {
		s.Secrets.OnGet = func(_ string, v secret.Version) error {
			if v == "2" {
				return errBad
			}
			return nil
		}
	}
	o.Container = s.original
	e, err := rotation.Plan(o, old, next, "the secret changed", time.Now())
	assert.NilError(t, err)
	s.entry = e
	s.onPoint(nil)
	return s
}

// rotate carries the change out, until it ends, dies or parks.
func (s *scene) rotate(ctx context.Context) error {
	if err := s.Machine.Begin(&s.entry); err != nil {
		return err
	}
	return s.Machine.Run(ctx, &s.entry)
}

// onPoint calls hook at every point, after the person, and fails at the one where
// the change breaks.
func (s *scene) onPoint(hook func(point string) error) {
	s.Machine.Fault = func(point string) error {
		if point == s.meets && !s.met {
			s.met = true
			s.person(s)
		}
		if hook != nil {
			if err := hook(point); err != nil {
				return err
			}
		}
		if point == s.breaks {
			return errors.New("the engine refuses")
		}
		return nil
	}
}

// boot starts the next agent.
func (s *scene) boot(t *testing.T) {
	t.Helper()
	s.Boot(t)
	s.onPoint(nil)
}

// died is what a Fault panics with to kill the agent at a point.
type died struct{ point string }

// rotateUntil is rotate by an agent that is killed at the first pass of a point.
func (s *scene) rotateUntil(point string) (reached bool) {
	s.onPoint(func(at string) error {
		if at == point {
			panic(died{at})
		}
		return nil
	})
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(died); !ok {
				panic(r)
			}
			reached = true
		}
	}()
	_ = s.rotate(context.Background())
	return false
}

// recoverPending is what an agent does with what the one before left.
func (s *scene) recoverPending(t *testing.T) {
	t.Helper()
	for _, e := range s.Journal.Pending() {
		e.Recovered = true
		assert.NilError(t, s.Machine.Run(context.Background(), &e))
	}
}

// ended returns the journal's only entry.
func (s *scene) ended(t *testing.T) rotation.Entry {
	t.Helper()
	all := s.Journal.All()
	assert.Equal(t, len(all), 1)
	assert.Assert(t, !all[0].Pending(), "still at step %s: %s", all[0].Step, all[0].ErrorMessage)
	return all[0]
}

// check asserts what holds after every rotation, however it went.
func (s *scene) check(t *testing.T, want rotation.Outcome) {
	t.Helper()
	if s.rescue != "" {
		s.checkMeddled(t)
		return
	}
	time.Sleep(5 * time.Second) // what was restarted becomes healthy
	if s.bad && s.strategy == rotation.None && s.restarted && s.ended(t).Outcome == rotation.OutcomeRotated {
		want = rotation.OutcomeRotated // it was started with the current version, which is sealed since then
	}
	assert.Equal(t, s.ended(t).Outcome, want, "%s", s.ended(t).ErrorMessage)
	var names []string
	for _, c := range s.Engine.All() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	expected := []string{"web"}
	if s.sidecar {
		expected = []string{"sidecar", "web"}
	}
	assert.DeepEqual(t, names, expected)
	s.checkServing(t, want)
	s.checkState(t, want)
}

func (s *scene) checkServing(t *testing.T, want rotation.Outcome) {
	t.Helper()
	c := s.Container(t, "web")
	assert.Assert(t, c.Running(), "web is %s: %s", c.State.Status, c.State.Error)
	assert.Equal(t, c.State.Health, container.Healthy)
	assert.Equal(t, c.State.RestartCount, 0)
	assert.DeepEqual(t, c.Spec.HostConfig.RestartPolicy, s.original.Spec.HostConfig.RestartPolicy)
	assert.DeepEqual(t, c.Mounts, s.original.Mounts)
	if want == rotation.OutcomeRolledBack {
		assert.Equal(t, c.ID, s.original.ID)
	}
	if s.strategy == rotation.Rolling && want == rotation.OutcomeRotated {
		assert.Assert(t, c.ID != s.original.ID)
	}
	if s.entry.Front != nil {
		assert.DeepEqual(t, s.Fronts.Targets(s.entry.Front.Key), []string{c.ShortID()})
	}
	if s.sidecar {
		dep := s.Container(t, "sidecar")
		assert.Assert(t, dep.Running())
		assert.Assert(t, !dep.State.StartedAt.Before(c.State.StartedAt), "the sidecar lives in a network that is gone")
	}
}

func (s *scene) checkState(t *testing.T, want rotation.Outcome) {
	t.Helper()
	c := s.Container(t, "web")
	has, _, known := s.Store.Delivered(c.ID)
	assert.Assert(t, known)
	pin, pinned := s.Store.Pinned(c.ID)
	if want == rotation.OutcomeRotated {
		assert.DeepEqual(t, has, next)
		assert.Assert(t, !pinned, "%+v", pin)
	} else {
		unfit := s.ended(t).Unfit
		assert.Equal(t, pinned, unfit, "only a version that did not work is kept off")
		if !unfit && s.restarted {
			assert.Assert(t, has.Equal(old) || has.Equal(next), "%v", has)
		} else {
			assert.DeepEqual(t, has, old)
		}
		if pinned {
			assert.DeepEqual(t, pin.Versions, old)
			assert.DeepEqual(t, pin.Failed, next)
		}
	}
	ids, err := s.Store.Known()
	assert.NilError(t, err)
	assert.DeepEqual(t, ids, []string{c.ID})
	_, pinned = s.Store.Pinned(s.entry.OriginalContainerID)
	assert.Equal(t, pinned, want == rotation.OutcomeRolledBack && s.ended(t).Unfit)
}

// points runs the change once and returns the points that it passes.
func (c change) points(t *testing.T) []string {
	var points []string
	synctest.Test(t, func(t *testing.T) {
		s := c.arrange(t)
		s.onPoint(func(point string) error {
			if !slices.Contains(points, point) {
				points = append(points, point)
			}
			return nil
		})
		assert.NilError(t, s.rotate(context.Background()))
		s.check(t, c.outcome())
		assert.Equal(t, s.ended(t).Outcome, c.outcome())
	})
	assert.Assert(t, len(points) > 6, "%v", points)
	return points
}

func (c change) outcome() rotation.Outcome {
	ends := map[rotation.Phase]rotation.Outcome{
		rotation.Adopt: rotation.OutcomeAdopted, rotation.Recreate: rotation.OutcomeRecreated, rotation.Yield: rotation.OutcomeYielded,
	}
	switch {
	case c.rescue != "":
		return ends[c.rescue]
	case c.bad:
		return rotation.OutcomeRolledBack
	}
	return rotation.OutcomeRotated
}

// trace is the story of a rotation: its steps, and what the engine was told.
func (s *scene) trace(t *testing.T) string {
	t.Helper()
	var lines []string
	told := len(s.Engine.Calls())
	flush := func() {
		for _, call := range s.Engine.Calls()[told:] {
			lines = append(lines, "    "+call)
		}
		told = len(s.Engine.Calls())
	}
	s.Machine.Observe = func(p rotation.Progress) {
		flush()
		switch {
		case p.Outcome != "":
			lines = append(lines, strings.TrimRight(fmt.Sprintf("= %s %s", p.Outcome, p.Detail), " "))
		case p.Phase != rotation.Forward:
			lines = append(lines, "< "+string(p.Step))
		default:
			lines = append(lines, "> "+string(p.Step))
		}
	}
	assert.Check(t, is.Nil(s.rotate(context.Background())))
	return strings.Join(lines, "\n") + "\n"
}
