package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// ask is what a person wants done with a rotation of the journal.
type ask int

const (
	askNothing ask = iota
	askAgain       // try again what needs a person
	askMark        // end it
)

// Errors of what a person asks for.
var (
	ErrNoRotation    = errors.New("no rotation to recover")
	ErrManyRotations = errors.New("several rotations match")
)

// errMarked is why a running rotation is stopped that a person ends.
var errMarked = errors.New("marked as recovered")

// Recover carries on at once what is pending, and tries again what needs a person:
// the rotations that name means (see [rotation.Entry.Named]), all when it is empty.
// It waits for them.
func (c *Controller) Recover(ctx context.Context, name string) ([]Result, error) {
	entries := c.unfinished(name)
	if len(entries) == 0 && name != "" {
		return nil, fmt.Errorf("%w: %s", ErrNoRotation, name)
	}
	return c.request(ctx, entries, askAgain)
}

// Mark ends the one rotation that name means, by a person's word.
func (c *Controller) Mark(ctx context.Context, name string) (rotation.Entry, error) {
	entries := c.unfinished(name)
	switch {
	case len(entries) == 0:
		return rotation.Entry{}, fmt.Errorf("%w: %s", ErrNoRotation, name)
	case len(entries) > 1:
		return rotation.Entry{}, fmt.Errorf("%w %s: name one by its key: %s, %s", ErrManyRotations, name, entries[0].Key(), entries[1].Key())
	}
	key := entries[0].Key()
	if _, err := c.request(ctx, entries, askMark); err != nil {
		return rotation.Entry{}, err
	}
	for _, e := range c.Machine.Journal.All() {
		if e.Key() == key && !e.Pending() {
			return e, nil
		}
	}
	return rotation.Entry{}, fmt.Errorf("rotation %s was not ended", key)
}

func (c *Controller) unfinished(name string) []rotation.Entry {
	var out []rotation.Entry
	for _, e := range c.Machine.Journal.All() {
		if (e.Pending() || e.NeedsPerson()) && (name == "" || e.Named(name)) {
			out = append(out, e)
		}
	}
	return out
}

// request leaves the ask for the groups' own passes, so that nothing else works on
// the containers meanwhile, and waits for them.
func (c *Controller) request(ctx context.Context, entries []rotation.Entry, what ask) ([]Result, error) {
	running := map[*group]bool{}
	names := map[string]bool{}
	for _, e := range entries {
		c.mu.Lock()
		c.asks[e.Key()] = what
		if stop := c.stops[e.Key()]; stop != nil && what == askMark {
			stop(errMarked)
		}
		c.mu.Unlock()
		names[e.ContainerName] = true
		running[c.kick(groupOf(e.Original), e.ContainerName, Target{})] = true
	}
	var results []Result
	for g := range running {
		select {
		case <-g.done:
			for _, r := range g.found {
				if names[r.Container] {
					results = append(results, r)
				}
			}
		case <-ctx.Done():
			return results, ctx.Err()
		}
	}
	return results, nil
}

// asked returns what is asked for a rotation, once.
func (c *Controller) asked(key string) ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := c.asks[key]
	delete(c.asks, key)
	return what
}

// stoppable returns a context that ends when a person ends the rotation.
func (c *Controller) stoppable(ctx context.Context, key string) (context.Context, func()) {
	ctx, stop := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops[key] = stop
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.stops, key)
		stop(nil)
	}
}

func (c *Controller) mark(e rotation.Entry) Result {
	res := Result{Container: e.ContainerName, Strategy: e.Strategy}
	if err := c.Machine.Mark(&e); err != nil {
		res.Error = err.Error()
		return res
	}
	c.concluded(e)
	res.Outcome = e.Outcome
	return res
}
