package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/window"
)

// Engine is what the controller needs of a Docker Engine besides the machine's.
type Engine interface {
	rotation.Engine
	InNetworkOf(ctx context.Context, id string) ([]string, error)
	Ping(ctx context.Context) error
	Events(ctx context.Context) (<-chan engine.Event, <-chan error)
}

// Deliveries knows what containers were given.
type Deliveries interface {
	Delivered(containerID string) (secret.Versions, time.Time, bool)
	Pinned(containerID string) (deliver.Pin, bool)
	Assigned() map[string]deliver.Pin
	Forget(containerID string) error
	Known() ([]string, error)
	Sweep() error
	Pin(containerID string, versions, failed secret.Versions) error
	Unpin(containerID string) error
	Keep(containerID string, versions secret.Versions, by string) (kept bool, err error)
	LetGo(containerID string) (was bool, err error)
	Stale(containerID string) *deliver.Stale
	Confirm(containerID string) error
	Reseal(ctx context.Context, containerID string, has secret.Versions) error
	Retain(further ...secret.Versions) error
	// Refused returns why the container would not be started, whatever the stores have.
	Refused(as wire.DeliverRequest) error
	// Readable returns why a start with these versions would not get their values, or nil.
	Readable(ctx context.Context, as wire.DeliverRequest, versions secret.Versions) error
	Untried(containerID string) (before secret.Versions, untried bool)
	Tried(containerID string) error
}

// Current knows the current versions of the secrets in use.
type Current interface {
	IDs(project string, refs []secret.Ref) []secret.ID
	// Desired returns what is known. It may be as old as the longest interval
	// between two polls.
	Desired(ctx context.Context, project string, refs []secret.Ref) (secret.Versions, error)
	// Confirm returns what the stores said after a moment, and at one and the same.
	Confirm(ctx context.Context, project string, refs []secret.Ref, after time.Time) (secret.Versions, error)
	// Use says which secrets are in use; the others need not be known.
	Use(ids []secret.ID)
	// Invalidate makes what is known of the secrets out of date, InvalidateAll all of
	// it.
	Invalidate(ids ...secret.ID)
	InvalidateAll()
}

// Fronts finds and feeds the fronts of services.
type Fronts interface {
	// Find returns the front of the service that the container belongs to; nil
	// when it has none.
	Find(ctx context.Context, c engine.Container) (*rotation.Front, error)
	// Serve makes the front send new connections to the ready containers, and to
	// those of the starting ones that it sends them to already, by short id.
	// Without any, nothing changes.
	Serve(ctx context.Context, f rotation.Front, ready, starting []string) error
}

// Ports returns the TCP ports that a running container accepts connections on.
type Ports func(c engine.Container) ([]uint16, error)

// Controller decides what is rotated and when. All fields are required.
type Controller struct {
	Engine Engine
	// Claim makes sure that the engine that answers is this agent's to change. It is
	// called on every connection, before anything is done there; an error ends the
	// connection. Lost is called when a connection that was claimed has ended and
	// another one follows.
	Claim      func(ctx context.Context) error
	Lost       func()
	Machine    *rotation.Machine
	Past       func() []rotation.Entry // rotations that are over, oldest first
	Locks      *rotation.Locks
	Deliveries Deliveries
	Current    Current
	Fronts     Fronts
	Ports      Ports
	Window     func() window.Window // when rotations may begin, for secrets that have none of their own
	Aliases    *Aliases
	Log        *slog.Logger
	Metrics    *metrics.Events
	// Frozen keeps everything from leading to a rotation by itself.
	Frozen bool
	// Parallel bounds how many groups are worked on at once.
	Parallel int
	// Interval is the longest time between two comparisons.
	Interval time.Duration

	mu      sync.Mutex
	groups  map[string]*group
	slots   chan struct{}
	wg      sync.WaitGroup
	gates   map[string]*gate                   // by Compose project
	mine    map[string]bool                    // ids of rotations that this process began
	starts  attempts                           // of containers that could not be started
	records attempts                           // of rotations that could not be recorded
	delays  map[string]delay                   // by id of the container
	unknown map[string]bool                    // containers whose desired versions are not known, by id
	asks    map[string]ask                     // by key of the rotation
	stops   map[string]context.CancelCauseFunc // of the rotations that run, by key
	base    context.Context                    // ends when the agent shall stop
	awaited map[int64]bool                     // when opened is signalled, in Unix seconds
	opened  chan struct{}                      // a window for rotations
	// fresh are the containers behind fronts that were created and have not
	// started; only Run's goroutine uses it.
	fresh map[string]bool

	counted counts                // of the engine's events
	queue   atomic.Pointer[queue] // of the connection; nil before the first
}

// group is the work going on in one group.
type group struct {
	again bool          // something changed since the running pass began
	done  chan struct{} // closed when the work is over
	force map[string]string
	cause string
	found []Result
}

// Result is what one comparison of one container led to.
type Result struct {
	Container string            `json:"container"`
	Strategy  rotation.Strategy `json:"strategy,omitempty"`
	Reasons   []string          `json:"reasons,omitempty"`
	Outcome   rotation.Outcome  `json:"outcome,omitempty"` // empty: nothing was to be done
	Error     string            `json:"error,omitempty"`
	Note      string            `json:"note,omitempty"`
}

// Init prepares the controller; ctx is its life. Call it before anything else.
func (c *Controller) Init(ctx context.Context) {
	c.base = ctx
	c.groups = map[string]*group{}
	c.mine = map[string]bool{}
	c.gates = map[string]*gate{}
	c.starts, c.records = attempts{}, attempts{}
	c.delays = map[string]delay{}
	c.unknown = map[string]bool{}
	c.asks = map[string]ask{}
	c.stops = map[string]context.CancelCauseFunc{}
	c.awaited = map[int64]bool{}
	c.opened = make(chan struct{}, 1)
	c.slots = make(chan struct{}, max(c.Parallel, 1))
}

// Wait returns when all work has ended or is parked.
func (c *Controller) Wait() { c.wg.Wait() }

// Target says what a person wants rotated. With neither a secret nor a container it is all
// of them.
type Target struct {
	Secret    secret.ID // the containers that use it
	Container string    // or one container, by name or id
	// Force rotates also what has the current versions, and what is pinned
	// because these versions failed before, at any time.
	Force bool
	// NoWait starts the work and does not wait for it.
	NoWait bool
	Cause  string
}

// ErrNoContainer is returned when a target names no running managed container.
var ErrNoContainer = errors.New("no running container matches")

// Sync brings everything that the target names up to date and waits for it.
func (c *Controller) Sync(ctx context.Context, t Target) ([]Result, error) {
	running, members, err := c.kickAll(ctx, t)
	if err != nil || t.NoWait {
		return nil, err
	}
	var results []Result
	for _, g := range running {
		select {
		case <-g.done:
			results = append(results, g.found...)
		case <-ctx.Done():
			return results, ctx.Err()
		}
	}
	return slices.DeleteFunc(results, func(r Result) bool {
		return !slices.ContainsFunc(members, func(m engine.Container) bool { return m.Name == r.Container })
	}), nil
}

// kickAll makes sure that a pass begins over every group that the target is about,
// and returns the work with the containers that were meant.
func (c *Controller) kickAll(ctx context.Context, t Target) (map[string]*group, []engine.Container, error) {
	members, err := engine.Look(ctx, func(ctx context.Context) ([]engine.Container, error) { return c.members(ctx) })
	if err != nil {
		return nil, nil, err
	}
	members = slices.DeleteFunc(members, func(m engine.Container) bool { return !m.Running() || !c.matches(m, t) })
	if len(members) == 0 && t.Container != "" {
		return nil, nil, ErrNoContainer
	}
	c.Current.Invalidate(c.idsOf(members, t)...)
	running := map[string]*group{}
	for _, m := range members {
		key := groupOf(m)
		running[key] = c.kick(key, m.Name, t)
	}
	return running, members, nil
}

// idsOf returns the secrets that somebody who asks for the target wants to be current:
// the one that is named, or those of the containers.
func (c *Controller) idsOf(members []engine.Container, t Target) []secret.ID {
	if t.Secret != (secret.ID{}) {
		return []secret.ID{t.Secret}
	}
	return c.used(members)
}

// used returns the secrets that the containers use, each once.
func (c *Controller) used(members []engine.Container) []secret.ID {
	var ids []secret.ID
	for _, m := range members {
		ids = append(ids, c.Current.IDs(m.Project(), refsOf(m))...)
	}
	slices.SortFunc(ids, secret.ID.Compare)
	return slices.Compact(ids)
}

func (c *Controller) matches(m engine.Container, t Target) bool {
	switch {
	case t.Container != "":
		return m.Name == t.Container || m.ID == t.Container || m.ShortID() == t.Container
	case t.Secret == (secret.ID{}):
		return true
	}
	return slices.Contains(c.Current.IDs(m.Project(), refsOf(m)), t.Secret)
}

// members returns the managed containers, running or not, that carry all of the
// labels.
func (c *Controller) members(ctx context.Context, labels ...string) ([]engine.Container, error) {
	ids, err := c.Engine.List(ctx, labels...)
	if err != nil {
		return nil, err
	}
	return c.inspectManaged(ctx, ids)
}

func (c *Controller) inspectManaged(ctx context.Context, ids []string) ([]engine.Container, error) {
	all, err := engine.InspectAll(ctx, c.Engine, ids)
	return slices.DeleteFunc(all, func(m engine.Container) bool { return !managed(m) }), err
}

// groupMembers returns the managed containers of one group.
func (c *Controller) groupMembers(ctx context.Context, key string) ([]engine.Container, error) {
	project, service, isService := strings.Cut(key, "/")
	if !isService { // no container's name has a slash
		return c.inspectManaged(ctx, []string{key})
	}
	return c.members(ctx, engine.LabelComposeProject+"="+project, engine.LabelComposeService+"="+service)
}

// Runtime is the name under which dso-runtime is registered in the engine. A
// container with references but another runtime sees the references themselves;
// rotating it would change nothing.
const Runtime = "dso"

// managed reports whether DSO looks after the container: one that names a secret, be it one
// that it is not given any more. It does not after the one
// that "docker compose run" makes beside a service: that is somebody's command at
// work, and never a place to send the service's traffic to.
func managed(m engine.Container) bool {
	return m.Label(engine.LabelComposeOneoff) != "True" && m.Spec.HostConfig != nil && m.Spec.HostConfig.Runtime == Runtime && len(m.References())+len(m.Given.Missing) > 0
}

func refsOf(m engine.Container) []secret.Ref {
	refs := m.References()
	out := make([]secret.Ref, len(refs))
	for i, r := range refs {
		out[i] = r.Ref
	}
	return out
}

// request is what a start of the container asks for.
func request(m engine.Container) wire.DeliverRequest {
	as := wire.DeliverRequest{ContainerID: m.ID, Name: m.Name, Project: m.Project(), Missing: m.Given.Missing}
	for _, r := range m.References() {
		as.References = append(as.References, wire.Reference{Variable: r.Variable, Ref: r.Ref.String(), Given: r.Given})
	}
	return as
}

// refused returns why the container would not be started again, or nil.
func (c *Controller) refused(m engine.Container) error {
	if err := c.Deliveries.Refused(request(m)); err != nil {
		return fmt.Errorf("kept as it is, and a start of it would be refused: %w", err)
	}
	return nil
}

// groupOf returns the key of the container's group.
func groupOf(m engine.Container) string { return groupKey(m.Project(), m.Service(), m.Name) }

func groupKey(project, service, name string) string {
	if project != "" && service != "" {
		return project + "/" + service
	}
	return name
}

// kick makes sure that a pass over the group begins after now, and returns the
// work that includes it.
func (c *Controller) kick(key, name string, t Target) *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[key]
	if g == nil {
		g = &group{done: make(chan struct{}), force: map[string]string{}}
		c.groups[key] = g
		c.wg.Go(func() { c.work(key, g) })
	}
	g.again = true
	if t.Force {
		g.force[name] = t.Cause
	}
	if t.Cause != "" {
		g.cause = t.Cause
	}
	return g
}

// work passes over the group until nothing asks for another pass.
func (c *Controller) work(key string, g *group) {
	for {
		c.mu.Lock()
		if !g.again || c.base.Err() != nil {
			delete(c.groups, key)
			close(g.done)
			c.mu.Unlock()
			return
		}
		g.again = false
		force, cause := g.force, g.cause
		g.force = map[string]string{}
		c.mu.Unlock()
		var later *rest
		c.inTurn(key, func() {
			var found []Result
			found, later = c.pass(key, force, cause)
			g.found = merge(g.found, found)
		})
		c.rest(g, later)
	}
}

// rest waits until the others of a group may have their turn, while somebody else may
// have the project's.
func (c *Controller) rest(g *group, later *rest) {
	if later == nil {
		return
	}
	select {
	case <-time.After(later.pause):
	case <-c.base.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g.again = true
	for name, cause := range later.force {
		g.force[name] = cause
	}
}

// inTurn does the work of a group when nobody has its project paused and there is a
// slot; not at all when the agent stops before.
func (c *Controller) inTurn(key string, do func()) {
	pending := slices.ContainsFunc(c.Machine.Journal.Pending(), func(e rotation.Entry) bool { return groupOf(e.Original) == key })
	leave, err := c.enter(c.base, projectOf(key), pending)
	if err != nil {
		return
	}
	defer leave()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		do()
	case <-c.base.Done():
	}
}

// merge keeps the newest result of each container that says that something
// happened: the pass after a rotation, which finds nothing to do or says why it
// does not try again, is not what the caller asked for.
func merge(old, fresh []Result) []Result {
	for _, r := range fresh {
		i := slices.IndexFunc(old, func(o Result) bool { return o.Container == r.Container })
		switch {
		case i < 0:
			old = append(old, r)
		case r.Outcome != "", old[i].Outcome == "" && r.Error != "":
			old[i] = r
		}
	}
	return old
}
