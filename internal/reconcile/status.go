package reconcile

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Users returns the names of the containers, running or not, that use a secret.
func (c *Controller) Users(ctx context.Context, id secret.ID) ([]string, error) {
	rows, err := c.Uses(ctx, id)
	var names []string
	for _, r := range rows {
		names = append(names, r.Container)
	}
	return names, err
}

// Uses describes the containers, running or not, that use a secret.
func (c *Controller) Uses(ctx context.Context, id secret.ID) ([]wire.SecretUser, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	rows := []wire.SecretUser{}
	for _, m := range members {
		if !c.matches(m, Target{Secret: id}) {
			continue
		}
		row := wire.SecretUser{Container: m.Name, ID: m.ShortID(), State: string(m.State.Status), Project: m.Project(), Service: m.Service(), UpToDate: true}
		has, _, _ := c.Deliveries.Delivered(m.ID)
		row.Has = string(has[id])
		if wants, err := c.Current.Desired(ctx, m.Project(), refsOf(m)); err == nil {
			row.UpToDate = !m.Running() || has[id] == wants[id]
		}
		for _, r := range m.References() {
			if slices.Contains(c.Current.IDs(m.Project(), []secret.Ref{r.Ref}), id) {
				row.Variables = append(row.Variables, r.Variable)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Queue describes the queue of the engine's events.
func (c *Controller) Queue() wire.QueueStatus {
	st := wire.QueueStatus{
		Capacity: queueSize, MaxDepth: int(c.counted.deepest.Load()), Processed: c.counted.processed.Load(), Dropped: c.counted.dropped.Load(),
	}
	if q := c.queue.Load(); q != nil {
		st.Depth = len(q.events)
	}
	return st
}

// Status describes every managed container as it is now.
func (c *Controller) Status(ctx context.Context) ([]wire.ContainerStatus, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	entries := c.rotations()
	rows := []wire.ContainerStatus{}
	for _, m := range members {
		rows = append(rows, c.statusOf(ctx, m, entries))
	}
	return rows, nil
}

// rotations are those that are over, and those that are not.
func (c *Controller) rotations() []rotation.Entry {
	return append(c.Past(), c.Machine.Journal.Unfinished()...)
}

// Detail describes one managed container, by name or id, with its references. The
// error is [ErrNoContainer] when there is none.
func (c *Controller) Detail(ctx context.Context, name string) (wire.ContainerDetail, error) {
	m, err := c.named(ctx, name)
	if err != nil {
		return wire.ContainerDetail{}, err
	}
	d := wire.ContainerDetail{
		SchemaVersion: wire.JSONVersion, ContainerStatus: c.statusOf(ctx, m, c.rotations()),
		Runtime: m.Spec.HostConfig.Runtime, References: []wire.ReferenceDetail{},
	}
	if m.Spec.Config != nil {
		d.Image = m.Spec.Config.Image
	}
	for _, r := range m.References() {
		id := c.Current.IDs(m.Project(), []secret.Ref{r.Ref})[0].String()
		row := wire.ReferenceDetail{Variable: r.Variable, Reference: r.Ref.String(), Secret: id, Has: d.Has[id], Wants: d.Wants[id], Target: r.Given}
		if r.Ref.Kind == secret.KindFile {
			row.File = deliver.FilePath(r.Ref)
		}
		d.References = append(d.References, row)
	}
	return d, nil
}

func (c *Controller) statusOf(ctx context.Context, m engine.Container, entries []rotation.Entry) wire.ContainerStatus {
	row := wire.ContainerStatus{
		Name: m.Name, ID: m.ShortID(), State: string(m.State.Status), Health: string(m.State.Health), Project: m.Project(), Service: m.Service(),
	}
	for _, id := range c.used([]engine.Container{m}) {
		row.Uses = append(row.Uses, id.String())
	}
	pin, pinned := c.Deliveries.Pinned(m.ID)
	if row.Pinned = pinned; pinned {
		row.Pin = &wire.Pin{Since: pin.Since, Failed: Texts(pin.Failed), By: pin.By}
	}
	has, given, known := c.Deliveries.Delivered(m.ID)
	row.Has, row.Given = Texts(has), given
	if stale := c.Deliveries.Stale(m.ID); stale != nil && m.Running() {
		row.Stale = &wire.Stale{Since: stale.Since, Age: time.Since(stale.Since).Round(time.Second).String(), Cause: stale.Cause}
	}
	for _, e := range entries {
		if e.Unfinished() && e.Concerns(m.ID) {
			open := Open(e)
			row.Rotation = &open
		}
	}
	wants, err := c.Current.Desired(ctx, m.Project(), refsOf(m))
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.Wants = Texts(wants)
	row.UpToDate = !m.Running() || known && has.Equal(wants)
	next := has
	if !row.UpToDate && pin.By != "" {
		row.Held = keptBy(m, pin)
	} else if !row.UpToDate && known {
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
		row.Predicted = predict(entries, m, e.Strategy)
	}
	err = cmp.Or(c.refused(m), err)
	switch late := c.delayed(m.ID, next); {
	case err != nil:
		row.Error = err.Error()
	case !row.UpToDate && row.Rotation == nil && row.Held == "" && len(pin.Failed) == 0:
		row.Error = late
	}
	return row
}

// Open describes a rotation that is not over.
func Open(e rotation.Entry) wire.PendingRotation {
	return wire.PendingRotation{
		ID: e.ID, Container: e.ContainerName, Strategy: string(e.Strategy), Status: string(e.Status), Phase: string(e.Phase),
		Step: cmp.Or(string(e.Step), string(e.StuckStep)), Since: e.StartTime, Age: time.Since(e.StartTime).Round(time.Second).String(),
		NeedsPerson: e.NeedsPerson(), Error: e.ErrorMessage,
	}
}

// predict estimates how long a rotation would take: the median of what rotations of
// the container took, else of its service, else of any by the same strategy. Without
// one there is no estimate.
func predict(entries []rotation.Entry, m engine.Container, s rotation.Strategy) *wire.Prediction {
	group := groupOf(m)
	var own, service, all []float64
	for _, e := range entries {
		if e.Pending() || e.Outcome != rotation.OutcomeRotated || e.Strategy != s || e.Recovered || e.Tries {
			continue // one that waited for another agent says nothing about the next
		}
		took := e.LastUpdate.Sub(e.StartTime).Seconds()
		all = append(all, took)
		if e.ContainerName == m.Name {
			own = append(own, took)
		}
		if groupOf(e.Original) == group {
			service = append(service, took)
		}
	}
	for _, from := range []struct {
		basis string
		took  []float64
	}{{"this container", own}, {"this service", service}, {"strategy " + string(s), all}} {
		if n := len(from.took); n > 0 {
			slices.Sort(from.took)
			median := (from.took[(n-1)/2] + from.took[n/2]) / 2
			return &wire.Prediction{Seconds: float64(int(median*10+0.5)) / 10, Samples: n, Basis: from.basis}
		}
	}
	return nil
}

// Texts are versions as they are shown.
func Texts(vs secret.Versions) map[string]string {
	out := map[string]string{}
	for id, v := range vs {
		out[id.String()] = string(v)
	}
	return out
}
