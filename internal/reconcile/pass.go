package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// why is why a container is looked at.
type why struct {
	force bool               // a person asked for it
	cause string             // for the journal
	began time.Time          // when the pass over its group began
	group []engine.Container // it and those beside it, as they were when its turn came
	// plan is held while a rotation of the group is planned, and until it is in the
	// journal: each sees what the others are about to do.
	plan *sync.Mutex
}

// pass compares every container of a group once, as many at a time as take their turn
// together. When others shall wait before their turn, it ends there: rest says for how
// long, and which of the forced are among them.
func (c *Controller) pass(key string, force map[string]string, cause string) (results []Result, later *rest) {
	ctx := c.base
	began := time.Now() // replicas whose change began are all changed
	results = c.resume(ctx, key)
	members, err := c.groupMembers(ctx, key)
	if err != nil {
		return append(results, Result{Container: key, Error: err.Error()}), nil
	}
	turns, group := turnsOf(members), members
	var plan sync.Mutex
	for len(members) > 0 && later == nil {
		now, after := split(members, turns.AtOnce)
		found := c.together(ctx, now, func(m engine.Container) why {
			w := why{cause: cause, began: began, group: group, plan: &plan}
			if asked, forced := force[m.Name]; forced {
				w.force, w.cause = true, asked
			}
			return w
		})
		results = append(results, found...)
		if turns.Pause > 0 && len(after) > 0 && slices.ContainsFunc(found, func(r Result) bool { return r.Outcome != "" }) {
			later = waiting(after, force, turns.Pause)
		}
		if members = after; len(members) > 0 && later == nil { // those before them may have taken minutes
			if group, err = c.groupMembers(ctx, key); err != nil {
				return append(results, Result{Container: key, Error: err.Error()}), nil
			}
			members = still(members, group)
		}
	}
	if members, err = c.groupMembers(ctx, key); err == nil {
		c.letGo(ctx, members)
	}
	if err := c.Deliveries.Sweep(); err != nil { // a start that was cut off may have left its bundle
		c.Log.Warn("private bundles not swept", "error", err)
	}
	if err := c.feedFront(ctx, key); err != nil && ctx.Err() == nil {
		c.Log.Warn("front not fed", "group", key, "error", err)
	}
	return results, later
}

// resume carries on what the journal says is pending in the group, and does what
// a person asked for with it.
func (c *Controller) resume(ctx context.Context, key string) []Result {
	var results []Result
	for _, e := range c.Machine.Journal.Unfinished() {
		if groupOf(e.Original) != key {
			continue
		}
		what := c.asked(e.Key())
		switch {
		case what == askMark:
			results = append(results, c.mark(e))
		case what != askAgain && !c.may(c.records, e.OriginalContainerID):
			results = append(results, Result{Container: e.ContainerName, Error: unrecorded})
		case e.Pending() || what == askAgain:
			if !c.began(e.ID) {
				e.Recovered = true
			}
			results = append(results, c.run(ctx, e, func() {}))
		}
	}
	return results
}

func (c *Controller) began(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mine[id]
}

// settle brings one container up to date.
func (c *Controller) settle(ctx context.Context, m engine.Container, w why) Result {
	res, force := Result{Container: m.Name}, w.force
	if before, untried := c.Deliveries.Untried(m.ID); untried && (m.Running() || m.State.Status == container.StateRestarting) {
		if tried, done := c.try(ctx, m, before); done {
			return tried
		}
	}
	if !m.Running() {
		if err := c.startFailed(ctx, m); err != nil {
			res.Error = err.Error()
		}
		return res
	}
	c.settled(c.starts, m.ID)
	from, at, known := c.Deliveries.Delivered(m.ID)
	same := func(to secret.Versions) bool { return !force && known && from.Equal(to) }
	to, err := c.Current.Desired(ctx, m.Project(), refsOf(m))
	// What is known may be older than what the container was started with, or from
	// before the store went down.
	stale := c.Deliveries.Stale(m.ID)
	if err == nil && (!same(to) || stale != nil) {
		to, err = c.Current.Confirm(ctx, m.Project(), refsOf(m), at)
	}
	c.noteUnknown(m, err)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	if known && from.Equal(to) {
		c.confirm(m, stale)
		if err := c.Deliveries.Reseal(ctx, m.ID, from); err != nil {
			c.Log.Warn("values not sealed", "container", m.Name, "error", err)
		}
	}
	if same(to) {
		return res
	}
	// The stores may have taken their time, and so does the end of a change.
	switch m, err = c.Engine.Inspect(ctx, m.ID); {
	case errdefs.IsNotFound(err):
		return res
	case err != nil:
		res.Error = err.Error()
		return res
	case !m.Running():
		return res
	}
	if err := c.refused(m); err != nil {
		res.Error = err.Error()
		return res
	}
	held, all := c.heldBack(m, from, to, force, w.began), to
	if !force {
		to = held.leaves(from, to)
	}
	if pin, _ := c.Deliveries.Pinned(m.ID); !force && pin.By != "" {
		res.Error = keptBy(m, pin)
		return res
	}
	if pin, pinned := c.Deliveries.Pinned(m.ID); !force && pinned && (pin.Failed.Equal(to) || pin.Failed.Equal(all)) {
		res.Error = fmt.Sprintf("pinned to the versions before: %s failed its health gate", describe(changed(from, to)))
		return res
	}
	if !force && !c.may(c.records, m.ID) {
		res.Error = unrecorded
		return res
	}
	if late := c.delayed(m.ID, to); !force && late != "" {
		res.Error = late
		return res
	}
	if held.any() && force {
		res.Note = held.note()
	} else if held.any() {
		c.await(held.opens)
		if from.Equal(to) {
			res.Error = held.String() + "; docker dso rotate " + m.Name + " does it now"
			return res
		}
	}
	if err := c.unreadable(ctx, m, to); err != nil {
		res.Error = err.Error()
		return res
	}
	w.plan.Lock()
	planned := sync.OnceFunc(w.plan.Unlock)
	defer planned()
	if where, err := c.holdBeside(ctx, m, w.group, to); err != nil {
		res.Error = err.Error()
		return res
	} else if !force && known && where != "" {
		res.Error = fmt.Sprintf("kept on the versions before: %s failed its health gate in %s", describe(changed(from, to)), where)
		if err := c.Deliveries.Pin(m.ID, from, to); err != nil {
			res.Error = err.Error()
		}
		return res
	}
	e, err := c.plan(ctx, m, from, to, w.cause)
	if err != nil {
		c.Log.Error("container cannot be rotated", "container", m.Name, "error", err)
		res.Error = err.Error()
		return res
	}
	if !force && e.From.Equal(e.To) {
		return res // what is new reaches it with its next start
	}
	done := c.begin(ctx, e, planned)
	done.Note = res.Note
	return done
}

// try finds out whether a container works with versions that no rotation brought: it
// was started with them, by the engine, a person or its own crash. What a rotation in
// place would have done up to its gate has happened. done says that there is nothing
// more to do with it now.
func (c *Controller) try(ctx context.Context, m engine.Container, before secret.Versions) (res Result, done bool) {
	has, at, known := c.Deliveries.Delivered(m.ID)
	if _, pinned := c.Deliveries.Pinned(m.ID); !known || pinned {
		return res, false
	}
	if !c.may(c.records, m.ID) {
		return Result{Container: m.Name, Error: unrecorded}, true
	}
	o, err := c.Observe(ctx, m)
	var e rotation.Entry
	if err == nil {
		e, err = rotation.Tried(o, before, has, "started with another version", at)
	}
	if err != nil || e.Strategy == rotation.None {
		if err = errors.Join(err, c.Deliveries.Tried(m.ID)); err != nil {
			c.Log.Warn("container not tried", "container", m.Name, "error", err)
		}
		return res, false
	}
	res = c.begin(ctx, e, func() {})
	if err := c.Deliveries.Tried(m.ID); err != nil {
		c.Log.Warn("container not noted as tried", "container", m.Name, "error", err)
	}
	// When it works, it may have an older version than the current one.
	return res, res.Outcome != rotation.OutcomeRotated
}

// confirm notes that what a container was given while a store did not answer is what
// the store has.
func (c *Controller) confirm(m engine.Container, stale *deliver.Stale) {
	if stale == nil {
		return
	}
	if err := c.Deliveries.Confirm(m.ID); err != nil {
		c.Log.Warn("container not confirmed", "container", m.Name, "error", err)
		return
	}
	c.Log.Info("values are no longer stale: the store has the same versions", "container", m.Name, "since", stale.Since)
}

// noteUnknown logs when it is no longer known which versions a container should have, and
// when it is again. What is wrong meanwhile is in its status.
func (c *Controller) noteUnknown(m engine.Container, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	was := c.unknown[m.ID]
	if err != nil {
		c.unknown[m.ID] = true
	} else {
		delete(c.unknown, m.ID)
	}
	c.mu.Unlock()
	switch {
	case err != nil && !was:
		c.Log.Warn("desired versions unknown", "container", m.Name, "error", err)
	case err == nil && was:
		c.Log.Info("desired versions known again", "container", m.Name)
	}
}

func changed(from, to secret.Versions) secret.Versions {
	out := secret.Versions{}
	for id, v := range to {
		if from[id] != v {
			out[id] = v
		}
	}
	return out
}

func describe(vs secret.Versions) string {
	parts := make([]string, 0, len(vs))
	for _, id := range vs.IDs() {
		parts = append(parts, fmt.Sprintf("%s version %s", id, vs[id]))
	}
	return strings.Join(parts, ", ")
}

func (c *Controller) plan(ctx context.Context, m engine.Container, from, to secret.Versions, cause string) (rotation.Entry, error) {
	o, err := c.Observe(ctx, m)
	if err != nil {
		return rotation.Entry{}, err
	}
	if cause == "" {
		cause = "change detected"
	}
	return rotation.Plan(o, from, to, cause, time.Now())
}

// Observe looks at what a plan for the container depends on.
func (c *Controller) Observe(ctx context.Context, m engine.Container) (rotation.Observed, error) {
	o := rotation.Observed{Container: m}
	var err error
	if o.Front, err = c.Fronts.Find(ctx, m); err != nil {
		return o, err
	}
	if o.Dependants, err = c.dependants(ctx, m); err != nil {
		return o, err
	}
	if m.Running() {
		o.Ports, err = c.Ports(m)
	}
	o.Files = c.Current.IDs(m.Project(), slices.DeleteFunc(refsOf(m), secret.Ref.Fixed))
	o.Fixed = c.Current.IDs(m.Project(), slices.DeleteFunc(refsOf(m), func(r secret.Ref) bool { return !r.Fixed() }))
	return o, err
}

func (c *Controller) dependants(ctx context.Context, m engine.Container) ([]string, error) {
	ids, err := c.Engine.InNetworkOf(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id string) bool {
		d, err := c.Engine.Inspect(ctx, id)
		return err != nil || !d.Running()
	}), nil
}

func (c *Controller) begin(ctx context.Context, e rotation.Entry, recorded func()) Result {
	c.mu.Lock()
	c.mine[e.ID] = true
	c.mu.Unlock()
	return c.run(ctx, e, recorded)
}

// run carries an entry to its end under the locks of its secrets. An entry that
// the journal does not know yet is recorded first; recorded is called when it is, or
// cannot be.
func (c *Controller) run(ctx context.Context, e rotation.Entry, recorded func()) Result {
	res := Result{Container: e.ContainerName, Strategy: e.Strategy, Reasons: e.Reasons}
	ctx, done := c.stoppable(ctx, e.Key())
	defer done()
	release, err := c.Locks.Acquire(ctx, e.To.IDs())
	if err == nil {
		defer release()
		switch {
		case e.NeedsPerson():
			err = c.Machine.Again(&e)
		case !e.Pending():
			err = c.Machine.Begin(&e)
		}
	}
	recorded()
	if err == nil {
		err = c.Machine.Run(ctx, &e)
	}
	c.concluded(e)
	res.Outcome, res.Error = e.Outcome, e.ErrorMessage
	if e.Outcome == rotation.OutcomeAdopted { // it has the new versions
		res.Error = ""
	}
	if err != nil {
		res.Error = err.Error()
		if !errors.Is(err, rotation.ErrParked) {
			c.Log.Error("rotation not carried on", "rotation", e.ID, "container", e.ContainerName, "error", err)
			c.later(c.records, e.Original)
			return res
		}
	}
	c.settled(c.records, e.OriginalContainerID)
	return res
}

// startFailed starts a container whose last start failed for our sake, or because
// the engine died in the middle of the one before, and that its restart policy
// wants running: the engine never tries such a start again.
func (c *Controller) startFailed(ctx context.Context, m engine.Container) error {
	if m.Spec.HostConfig == nil || !strings.Contains(m.State.Error, "dso: ") && !m.Stuck() {
		return nil
	}
	if !wanted(m) {
		return nil
	}
	if !c.may(c.starts, m.ID) {
		return errors.New(m.State.Error)
	}
	c.Log.Info("starting a container whose start had failed", "container", m.Name, "reason", m.State.Error)
	err := c.Engine.Start(ctx, m.ID)
	if err == nil {
		c.settled(c.starts, m.ID)
		return nil
	}
	c.later(c.starts, m)
	return err
}

// wanted reports whether the restart policy wants the container running.
func wanted(m engine.Container) bool {
	switch m.Spec.HostConfig.RestartPolicy.Name {
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped, container.RestartPolicyOnFailure:
		return true
	}
	return false
}

// The pause between two attempts to start a container, or to carry on a rotation
// that cannot be recorded, doubling from the first to the last.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// attempt is the next time at which what cannot be done is tried.
type attempt struct {
	at    time.Time
	pause time.Duration
}

// attempts are by id of the container.
type attempts map[string]attempt

// unrecorded is why a rotation waits that could not be recorded.
const unrecorded = "the rotation could not be recorded; it is tried again by itself, see the agent's log"

func (c *Controller) may(of attempts, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !time.Now().Before(of[id].at)
}

func (c *Controller) settled(of attempts, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(of, id)
}

// later looks at the container again after the next pause.
func (c *Controller) later(of attempts, m engine.Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := min(max(2*of[m.ID].pause, firstPause), lastPause)
	of[m.ID] = attempt{time.Now().Add(pause), pause}
	c.kickAfter(pause, m)
}

// feedFront sends the front's traffic to the healthy containers of the group, and
// to those that serve already and whose health the engine has not looked at yet.
// Without any the front keeps what it has.
func (c *Controller) feedFront(ctx context.Context, key string) error {
	members, err := c.groupMembers(ctx, key)
	if err != nil {
		return err
	}
	var front *rotation.Front
	var ready, starting []string
	for _, m := range members {
		if c.Machine.Journal.Concerns(m.ID) {
			return nil // the rotation itself moves the traffic
		}
		if !m.Running() || m.State.Health == container.Unhealthy {
			continue
		}
		if front == nil {
			if front, err = c.Fronts.Find(ctx, m); err != nil || front == nil {
				return err
			}
		}
		if m.State.Health == container.Starting {
			starting = append(starting, m.ShortID())
		} else {
			ready = append(ready, m.ShortID())
		}
	}
	if front == nil {
		return nil
	}
	return c.Fronts.Serve(ctx, *front, ready, starting)
}
