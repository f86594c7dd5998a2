package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// reconnect is the pause before an engine that went away is tried again.
const reconnect = 250 * time.Millisecond

// Run keeps the controller connected to the engine until ctx ends. recovered is
// called once, when what an agent before left pending has ended. changed tells
// that some secret may have a new version.
func (c *Controller) Run(ctx context.Context, changed <-chan struct{}, recovered func()) {
	once := sync.OnceFunc(recovered)
	for ctx.Err() == nil {
		err := c.connected(ctx, changed, once)
		if ctx.Err() != nil {
			return
		}
		c.Log.Warn("engine not reachable", "error", err)
		select {
		case <-time.After(reconnect):
		case <-ctx.Done():
		}
	}
}

// connected works on one connection: subscribe, claim, list, compare, follow. It
// subscribes first because the stream ends with the engine that it is of: whichever
// engine is claimed then, a change of the engine is noticed, and ends the connection
// whatever it is at.
func (c *Controller) connected(life context.Context, changed <-chan struct{}, recovered func()) (err error) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	if err := c.Engine.Ping(ctx); err != nil {
		return err
	}
	stream, failed := c.Engine.Events(ctx)
	q := newQueue(c.Metrics, &c.counted)
	c.queue.Store(q)
	var filling sync.WaitGroup
	filling.Go(func() { q.fill(ctx, stream) })
	filling.Go(func() {
		select {
		case err := <-failed:
			cancel(errors.Join(errors.New("event stream ended"), err))
		case <-ctx.Done():
		}
	})
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		filling.Wait()
		q.clear()
	}()
	if err := c.Claim(ctx); err != nil {
		return fmt.Errorf("claim engine: %w", err)
	}
	defer func() {
		if life.Err() == nil { // otherwise what runs is finished first
			c.Lost()
		}
	}()
	c.fresh = map[string]bool{}
	c.Current.InvalidateAll() // nobody compared anything meanwhile
	c.finishAliases(ctx)
	if err := c.recover(ctx); err != nil {
		return err
	}
	recovered()
	if err := c.compareAll(ctx, ""); err != nil {
		return err
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		select {
		case ev := <-q.events:
			q.took()
			c.handle(ev)
		case <-q.missed:
			q.clear()
			c.Log.Info("events dropped, everything is compared")
			if err := c.compareAll(ctx, ""); err != nil {
				return err
			}
		case <-changed:
			if err := c.compareAll(ctx, "secret changed"); err != nil {
				return err
			}
		case <-c.opened:
			if err := c.compareAll(ctx, "rotation.window opened"); err != nil {
				return err
			}
		case <-tick.C:
			if err := c.compareAll(ctx, ""); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// recover carries on what the journal says is pending, and waits for it. What a
// lost journal does not know is looked for meanwhile: that may take longer, as an
// engine tells nothing about a container while it starts it.
func (c *Controller) recover(ctx context.Context) error {
	running := map[string]*group{}
	begin := func(pending []rotation.Entry) {
		if len(pending) == 0 {
			return
		}
		c.Log.Info("Detected pending rotations, performing automatic recovery", "count", len(pending))
		for _, e := range pending {
			key := groupOf(e.Original)
			running[key] = c.kick(key, e.ContainerName, Target{})
		}
	}
	pending := c.foreign(c.Machine.Journal.Pending())
	begin(pending)
	rebuilt, err := c.rebuild(ctx)
	begin(rebuilt)
	if err != nil || len(running) == 0 {
		return err
	}
	for _, g := range running {
		select {
		case <-g.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.Log.Info("Automatic recovery completed", "rotations_processed", len(pending)+len(rebuilt))
	return nil
}

// rebuild finds rotations that a lost journal does not know.
func (c *Controller) rebuild(ctx context.Context) ([]rotation.Entry, error) {
	lost, err := c.inPlace(ctx)
	if err != nil {
		return nil, err
	}
	made, err := c.members(ctx, label.Entry)
	if err != nil {
		return nil, err
	}
	if len(made) > 0 {
		all, err := c.members(ctx)
		if err != nil {
			return nil, err
		}
		lost = append(lost, rotation.Rebuild(all)...)
	}
	taken, err := c.Machine.Journal.Adopt(lost)
	for _, e := range taken {
		c.Log.Warn("rotation was not in the journal and is rebuilt from the containers' labels and pins", "rotation", e.ID, "container", e.ContainerName)
	}
	return taken, err
}

// inPlace finds the changes in place that a lost journal does not know: there is no
// second container to tell of them, but the pin of the one.
func (c *Controller) inPlace(ctx context.Context) ([]rotation.Entry, error) {
	assigned := c.Deliveries.Assigned()
	for _, e := range c.Machine.Journal.Unfinished() {
		maps.DeleteFunc(assigned, func(id string, _ deliver.Pin) bool { return e.Concerns(id) })
	}
	members, err := engine.InspectAll(ctx, c.Engine, slices.Collect(maps.Keys(assigned)))
	if err != nil {
		return nil, err
	}
	var lost []rotation.Entry
	for _, m := range members {
		pin := assigned[m.ID]
		e, err := c.plan(ctx, m, pin.Before, pin.Versions, "the journal was lost in the middle")
		if err != nil {
			c.Log.Warn("change in place cannot be rebuilt", "container", m.Name, "error", err)
			continue
		}
		lost = append(lost, e.Rebuilt(pin.Since))
	}
	return lost, nil
}

func (c *Controller) foreign(entries []rotation.Entry) []rotation.Entry {
	var out []rotation.Entry
	for _, e := range entries {
		if !c.began(e.ID) {
			out = append(out, e)
		}
	}
	return out
}

// compareAll does all that events could have led to: it kicks every group that has
// something to compare, takes the aliases off what stands behind a front and has not
// started, and forgets the containers that are gone.
func (c *Controller) compareAll(ctx context.Context, cause string) error {
	c.finishAliases(ctx)
	remembered := c.remembered() // before the list, which knows nothing of what comes after it
	known, err := c.Deliveries.Known()
	if err != nil {
		return err
	}
	ids, err := c.Engine.List(ctx)
	if err != nil {
		return err
	}
	all, err := engine.InspectAll(ctx, c.Engine, ids)
	if err != nil {
		return err
	}
	c.startDependants(all)
	c.refresh(all)
	c.Current.Use(c.used(slices.DeleteFunc(slices.Clone(all), func(m engine.Container) bool { return !managed(m) })))
	there := slices.Clone(ids)
	for _, e := range c.Machine.Journal.Pending() { // its container may have another name now
		there = append(there, e.OriginalContainerID)
		c.kick(groupOf(e.Original), e.ContainerName, Target{})
	}
	c.forget(slices.DeleteFunc(remembered, func(id string) bool { return slices.Contains(there, id) }))
	for _, m := range all {
		if managed(m) {
			c.kick(groupOf(m), m.Name, Target{Cause: cause})
		}
		if m.Label(label.FrontService) != "" && m.Stuck() { // nobody else looks after it
			c.wg.Go(func() { _ = c.startFailed(c.base, m) })
		}
	}
	for _, id := range known {
		// A container whose runtime has another name is not ours to rotate, but
		// it may have been given files.
		if !slices.Contains(ids, id) && !c.Machine.Journal.Concerns(id) {
			if err := c.Deliveries.Forget(id); err != nil {
				return err
			}
		}
	}
	if err := c.Deliveries.Retain(c.journaled()...); err != nil {
		c.Log.Warn("sealed values not let go", "error", err)
	}
	return nil
}

// journaled returns the versions that rotations which are not over go from and to.
func (c *Controller) journaled() []secret.Versions {
	var all []secret.Versions
	for _, e := range c.Machine.Journal.Unfinished() {
		all = append(all, e.From, e.To)
	}
	return all
}

// handle looks where an event points. It asks the engine nothing itself: the
// engine answers no question about a container while that is starting.
func (c *Controller) handle(ev engine.Event) {
	switch {
	case ev.Action == "create" && ev.Labels[label.Front] != "":
		c.fresh[ev.ID] = true
		c.dropAliases(ev.ID)
	case ev.Action == engine.ActionNetworkConnect && c.fresh[ev.ID]:
		c.dropAliases(ev.ID)
	case ev.Action == "destroy":
		delete(c.fresh, ev.ID)
		c.forget([]string{ev.ID})
		if !c.Machine.Journal.Concerns(ev.ID) {
			if err := c.Deliveries.Forget(ev.ID); err != nil {
				c.Log.Warn("delivery not forgotten", "container", engine.ShortID(ev.ID), "error", err)
			}
		}
	case ev.Action == "start", ev.Action == "die", ev.Action == "unpause", strings.HasPrefix(ev.Action, "health_status"):
		delete(c.fresh, ev.ID)
		// A front is looked after with the service behind it.
		name, service := ev.Labels["name"], cmp.Or(ev.Labels[label.FrontService], ev.Labels[engine.LabelComposeService])
		c.kick(groupKey(ev.Labels[engine.LabelComposeProject], service, name), name, Target{})
	}
}

// refresh finds the fresh containers, and takes the aliases off those that no event
// told of.
func (c *Controller) refresh(all []engine.Container) {
	known := c.fresh
	c.fresh = map[string]bool{}
	for _, m := range all {
		if m.Label(label.Front) == "" || m.State.Status != container.StateCreated {
			continue
		}
		c.fresh[m.ID] = true
		if !known[m.ID] {
			c.dropAliases(m.ID)
		}
	}
}

// remembered returns the containers that something is kept about in memory.
func (c *Controller) remembered() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := slices.Collect(maps.Keys(c.starts))
	ids = slices.AppendSeq(ids, maps.Keys(c.records))
	ids = slices.AppendSeq(ids, maps.Keys(c.unknown))
	return slices.AppendSeq(ids, maps.Keys(c.delays))
}

// forget drops what is kept in memory about containers that are gone.
func (c *Controller) forget(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.starts, id)
		delete(c.records, id)
		delete(c.delays, id)
		delete(c.unknown, id)
	}
}

// finishAliases never stands in the way of the rest: what it could not do is done
// at the next comparison.
func (c *Controller) finishAliases(ctx context.Context) {
	if err := c.Aliases.Finish(ctx); err != nil {
		c.Log.Warn("networks not given back", "error", err)
	}
}

func (c *Controller) dropAliases(id string) {
	c.wg.Go(func() {
		if err := c.Aliases.Drop(c.base, id); err != nil {
			c.Log.Warn("network aliases not dropped", "container", engine.ShortID(id), "error", err)
		}
	})
}
