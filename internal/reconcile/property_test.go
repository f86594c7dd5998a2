package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"pgregory.net/rapid"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// quiet is longer than the longest pause before something is tried again.
const quiet = 40 * time.Minute

// Run it for longer with -rapid.checks.
func TestProperty_WhateverHappensEveryPlaceEndsAsTheModelSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScenario(rt)
		if err := s.play(t); err != nil {
			rt.Fatalf("%v\n%s", err, s)
		}
	})
}

// play lets the scenario happen and says what is not as it must be.
func (s scenario) play(t *testing.T) (err error) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s.Places)
		defer func() { w.stop() }()
		for i, round := range s.Rounds {
			for _, a := range round {
				w.act(t, a)
			}
			w.mend(t)
			time.Sleep(quiet)
			if w.needsPerson() {
				return
			}
			if err = w.check(); err != nil {
				err = fmt.Errorf("after round %d: %w\n%s\n%s", i+1, err, w.story(), w.log)
				return
			}
			w.rest()
		}
	})
	return err
}

// needsPerson reports whether a rotation could go neither way because nothing that
// the place had ever worked. Its end is for a person, and no property of it is known.
func (w *world) needsPerson() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.Journal.All(), func(e rotation.Entry) bool { return e.NeedsPerson() }) &&
		slices.ContainsFunc(w.places, func(p *place) bool { return p.sick || p.outside })
}

// mend ends all that is broken.
func (w *world) mend(t *testing.T) {
	time.Sleep(10 * time.Second)
	w.mu.Lock()
	w.armed = nil
	w.mu.Unlock()
	w.Host.Engine.Mend()
	w.boot(t)
}

func (w *world) story() string {
	var out []string
	for _, c := range w.Host.Engine.All() {
		got, _, _ := w.Store.Delivered(c.ID)
		out = append(out, fmt.Sprintf("%s %s %s %s %q %v", c.Name, c.ShortID(), c.State.Status, c.State.Health, c.State.Error, got))
	}
	return strings.Join(out, "\n")
}

// check compares the host with the model.
func (w *world) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.Journal.Pending(); len(p) > 0 {
		return fmt.Errorf("rotation %s is pending at %s", p[0].ID, p[0].Step)
	}
	for _, e := range w.Journal.All() {
		if e.NeedsPerson() {
			return fmt.Errorf("rotation %s needs a person: %s", e.ID, e.ErrorMessage)
		}
	}
	if files := w.lockFiles(); len(files) > 0 {
		return fmt.Errorf("locks are left: %v", files)
	}
	var ids []string
	for _, c := range w.Host.Engine.All() {
		if strings.Contains(c.Name, "_dso_") {
			return fmt.Errorf("%s is left over", c.Name)
		}
		ids = append(ids, c.ID)
	}
	known, err := w.Store.Known()
	if err != nil {
		return err
	}
	for _, id := range known {
		if !slices.Contains(ids, id) {
			return fmt.Errorf("the delivery of container %s, which is gone, is kept", engine.ShortID(id))
		}
	}
	for _, p := range w.places {
		if err := w.checkPlace(p); err != nil {
			return fmt.Errorf("%s: %w", p.kind, err)
		}
	}
	return nil
}

func (w *world) checkPlace(p *place) error {
	all := w.of(p)
	switch {
	case len(all) > 1:
		return fmt.Errorf("%d containers", len(all))
	case len(all) == 0 && (p.gone || p.maybeGone):
		return nil
	case len(all) == 0:
		return fmt.Errorf("no container")
	case p.gone:
		return fmt.Errorf("a container that a person removed is there again")
	}
	c := all[0]
	switch {
	case !slices.Contains(p.names, c.Name):
		return fmt.Errorf("its name is %s, not one of %v", c.Name, p.names)
	case !slices.ContainsFunc(p.specs, func(s engine.Container) bool {
		return c.Spec.HostConfig.RestartPolicy == s.Spec.HostConfig.RestartPolicy && slices.Equal(c.Mounts, s.Mounts)
	}):
		return fmt.Errorf("its restart policy is %v and its mounts are %v", c.Spec.HostConfig.RestartPolicy, c.Mounts)
	case !c.Running() && p.maybeStopped:
		return nil
	case !c.Running():
		return fmt.Errorf("it is %s", c.State.Status)
	}
	if err := w.checkVersions(p, c); err != nil {
		return err
	}
	if p.kind == "front" {
		if got := w.Host.Fronts.Targets("app_web"); !slices.Equal(got, []string{c.ShortID()}) && c.State.Health == container.Healthy {
			return fmt.Errorf("the front sends traffic to %v, not to %s", got, c.ShortID())
		}
	}
	return nil
}

func (w *world) checkVersions(p *place, c engine.Container) error {
	got, _, known := w.Store.Delivered(c.ID)
	pin, pinned := w.Store.Pinned(c.ID)
	works := w.works(p, got)
	lenient := p.outside || p.sick || p.forgotten && kinds[p.kind] != rotation.Rolling
	switch {
	case !known:
		return fmt.Errorf("what it has is not known")
	case !works && !lenient:
		return fmt.Errorf("it has %v, which does not work", got)
	case works && c.State.Health != container.Healthy:
		return fmt.Errorf("it has %v and is %s", got, c.State.Health)
	case !p.last.Equal(got) && !slices.ContainsFunc(w.since, got.Equal):
		return fmt.Errorf("it has %v, which nobody ever set", got)
	}
	if !works || lenient && !w.works(p, w.current) {
		return nil
	}
	excused := p.meddled || p.heldBack
	switch {
	case got.Equal(w.current) && pinned && (len(pin.Failed) == 0 || !excused):
		return fmt.Errorf("it has the current versions and is pinned: %+v", pin)
	case !got.Equal(w.current) && (!pinned || !pin.Failed.Equal(w.current)):
		return fmt.Errorf("it has %v, not %v, and pin %+v does not say why", got, w.current, pin)
	case !got.Equal(w.current) && w.works(p, w.current) && !excused:
		return fmt.Errorf("it has %v, not %v, which works: %+v", got, w.current, w.lastOf(p))
	}
	return nil
}

func (w *world) lastOf(p *place) (last rotation.Entry) {
	for _, e := range w.Journal.All() {
		if e.ContainerName == p.name {
			e.Original = engine.Container{}
			last = e
		}
	}
	return last
}

// rest takes over into the model what has come of the last round.
func (w *world) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = []secret.Versions{w.current}
	for _, p := range w.places {
		all := w.of(p)
		if len(all) == 0 {
			p.gone = true
		}
		p.maybeGone, p.meddled, p.outside, p.sick, p.lost, p.asked, p.upped = false, false, false, false, false, false, false
		p.forgotten = false
		for _, c := range all {
			p.specs = []engine.Container{c}
			p.name, p.names = c.Name, []string{c.Name}
			p.maybeStopped = p.maybeStopped && !c.Running()
			p.last, _, _ = w.Store.Delivered(c.ID)
			p.sick = !w.works(p, p.last)
			p.heldBack = !p.last.Equal(w.current)
			if pin, pinned := w.Store.Pinned(c.ID); pinned && pin.Failed.Equal(w.current) {
				p.heldBack = true
			}
		}
	}
}
