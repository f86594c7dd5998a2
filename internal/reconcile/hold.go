package reconcile

import (
	"context"
	"fmt"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// holdBeside prepares the rotation of one container of a group to new versions.
// The others that are to change too keep the versions that they have, durably,
// until it is their turn: an engine that restarts meanwhile starts them with what
// is known to work. failed names one in which the new versions failed already.
func (c *Controller) holdBeside(ctx context.Context, m engine.Container, group []engine.Container, to secret.Versions) (failed string, err error) {
	for _, o := range group {
		if o.ID == m.ID || c.Machine.Journal.Concerns(o.ID) { // or its turn has begun
			continue
		}
		if pin, pinned := c.Deliveries.Pinned(o.ID); pinned {
			if pin.Failed.Equal(to) {
				failed = o.Name
			}
			continue
		}
		has, current, err := c.current(ctx, o)
		if err != nil || !o.Running() || len(has) == 0 || current || c.refused(o) != nil {
			continue
		}
		if err := c.Deliveries.Pin(o.ID, has, nil); err != nil {
			return "", fmt.Errorf("hold container %s: %w", o.Name, err)
		}
	}
	return failed, nil
}

// letGo makes the held containers that have the current versions follow them
// again. One that could not be changed yet stays held: it changes by a rotation,
// or not at all.
func (c *Controller) letGo(ctx context.Context, members []engine.Container) {
	for _, m := range members {
		pin, pinned := c.Deliveries.Pinned(m.ID)
		if !pinned || len(pin.Failed) > 0 || pin.By != "" || c.Machine.Journal.Concerns(m.ID) {
			continue
		}
		_, current, err := c.current(ctx, m)
		if err == nil && current {
			err = c.Deliveries.Unpin(m.ID)
		}
		if err != nil {
			c.Log.Warn("container not let go", "container", m.Name, "error", err)
		}
	}
}

// current returns the versions that the container was given, none when that is
// not known, and whether they are the current ones.
func (c *Controller) current(ctx context.Context, m engine.Container) (has secret.Versions, current bool, err error) {
	has, _, _ = c.Deliveries.Delivered(m.ID)
	to, err := c.Current.Desired(ctx, m.Project(), refsOf(m))
	return has, has.Equal(to), err
}
