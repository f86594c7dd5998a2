package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
)

// Why a container cannot be pinned for a person, or let go.
var (
	ErrChangingOver = errors.New("it is being changed over, or waits for its turn")
	ErrNothingKnown = errors.New("the versions that it has are not known: it was not given any since the host started")
	ErrNotPinned    = errors.New("nobody has pinned it")
)

// keptBy says why a container that a person pinned is not changed over.
func keptBy(m engine.Container, pin deliver.Pin) string {
	return fmt.Sprintf("pinned by %s: docker dso unpin %s lets it go, docker dso rotate %[2]s changes it over now", pin.By, m.Name)
}

// Keep pins a container to the versions that it has, for a person. A pass over its group
// that had begun may not have seen that: what it did then is waited for, and is an error.
func (c *Controller) Keep(ctx context.Context, name, by string) (engine.Container, deliver.Pin, error) {
	m, err := c.named(ctx, name)
	if errors.Is(err, ErrNoContainer) && len(c.unfinished(name)) > 0 && name != "" {
		err = ErrChangingOver // between two renames nobody has the name
	}
	if err != nil {
		return m, deliver.Pin{}, err
	}
	has, _, known := c.Deliveries.Delivered(m.ID)
	switch {
	case c.Machine.Journal.Concerns(m.ID):
		return m, deliver.Pin{}, ErrChangingOver
	case !known:
		return m, deliver.Pin{}, ErrNothingKnown
	}
	if kept, err := c.Deliveries.Keep(m.ID, has, by); err != nil || !kept {
		return m, deliver.Pin{}, cmp.Or(err, ErrChangingOver)
	}
	select {
	case <-c.kick(groupOf(m), m.Name, Target{}).done:
	case <-ctx.Done():
		return m, deliver.Pin{}, ctx.Err()
	}
	pin, _ := c.Deliveries.Pinned(m.ID)
	if pin.By == "" || c.Machine.Journal.Concerns(m.ID) {
		return m, deliver.Pin{}, ErrChangingOver
	}
	c.Log.Info("container pinned", "container", m.Name, "by", by)
	return m, pin, nil
}

// LetGo ends the pin that a person asked for, and waits until the container is up to date,
// or could not be brought there.
func (c *Controller) LetGo(ctx context.Context, name string) (engine.Container, error) {
	m, err := c.named(ctx, name)
	if err != nil {
		return m, err
	}
	switch was, err := c.Deliveries.LetGo(m.ID); {
	case err != nil:
		return m, err
	case !was:
		return m, ErrNotPinned
	}
	c.Log.Info("container unpinned", "container", m.Name)
	select {
	case <-c.kick(groupOf(m), m.Name, Target{Cause: "unpinned"}).done:
	case <-ctx.Done(): // it goes on
	}
	return m, nil
}

// named finds a container, running or not, by its name or id.
func (c *Controller) named(ctx context.Context, name string) (engine.Container, error) {
	members, err := c.members(ctx)
	if err != nil {
		return engine.Container{}, err
	}
	i := slices.IndexFunc(members, func(m engine.Container) bool { return c.matches(m, Target{Container: name}) })
	if i < 0 || name == "" {
		return engine.Container{}, ErrNoContainer
	}
	return members[i], nil
}
