package reconcile

import (
	"context"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Users returns the names of the containers, running or not, that use a secret.
func (c *Controller) Users(ctx context.Context, id secret.ID) ([]string, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range members {
		if c.matches(m, Target{Secret: id}) {
			names = append(names, m.Name)
		}
	}
	return names, nil
}

// Status describes every managed container as it is now.
func (c *Controller) Status(ctx context.Context) ([]wire.ContainerStatus, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	rows := []wire.ContainerStatus{}
	for _, m := range members {
		rows = append(rows, c.statusOf(ctx, m))
	}
	return rows, nil
}

func (c *Controller) statusOf(ctx context.Context, m engine.Container) wire.ContainerStatus {
	row := wire.ContainerStatus{Name: m.Name, ID: m.ShortID(), State: string(m.State.Status), Health: string(m.State.Health)}
	pin, pinned := c.Deliveries.Pinned(m.ID)
	row.Pinned = pinned
	has, _, known := c.Deliveries.Delivered(m.ID)
	row.Has = texts(has)
	if stale := c.Deliveries.Stale(m.ID); stale != nil && m.Running() {
		row.Stale = &wire.Stale{Since: stale.Since, Age: time.Since(stale.Since).Round(time.Second).String(), Cause: stale.Cause}
	}
	wants, err := c.Current.Desired(ctx, m.Project(), refsOf(m))
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.Wants = texts(wants)
	row.UpToDate = !m.Running() || known && has.Equal(wants)
	next := has
	if !row.UpToDate && known {
		h := c.heldBack(m, has, wants, false, time.Now())
		next = h.leaves(has, wants)
		if len(pin.Failed) == 0 && h.any() && has.Equal(next) {
			row.Held, row.HeldUntil = h.String(), h.opens
		}
	}
	o, err := c.Observe(ctx, m)
	if err == nil {
		var e rotation.Entry
		e, err = rotation.Plan(o, has, next, "", time.Now())
		row.Strategy, row.Reasons = string(e.Strategy), e.Reasons
	}
	if err != nil {
		row.Error = err.Error()
	}
	return row
}

func texts(vs secret.Versions) map[string]string {
	out := map[string]string{}
	for id, v := range vs {
		out[id.String()] = string(v)
	}
	return out
}
