package enginetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/target"
)

// Behaviour is what a container's process does after a start. The zero value
// runs for ever and has no health check.
type Behaviour struct {
	// HealthyAfter is the time until the health check passes.
	HealthyAfter time.Duration
	// UnhealthyAfter is the time until the health check says unhealthy.
	UnhealthyAfter time.Duration
	// ExitAfter is the time until the process ends, with ExitCode.
	ExitAfter time.Duration
	ExitCode  int
}

// Image is an image that the engine has.
type Image struct {
	ID      string
	Volumes []string // the VOLUMEs of its Dockerfile
}

// Engine is the fake. It is safe for concurrent use.
type Engine struct {
	// OnStart stands for the OCI runtime and the process: it is called at every
	// start, without the engine's lock, and says how the container behaves. An
	// error fails the start. It may be nil.
	OnStart func(c engine.Container) (Behaviour, error)
	// OnSignal and OnExec stand for a process that is told to read its files anew; by
	// a command, which ends with the behaviour's ExitCode. They may be nil.
	OnSignal func(c engine.Container) Behaviour
	OnExec   func(c engine.Container) Behaviour
	// Targets, when set, says what a container is given beside its specification.
	Targets func(target.Container) target.Given

	mu         sync.Mutex
	containers map[string]*entry
	images     map[string]Image
	noNetworks map[string]bool // removed ones
	made       int             // containers, volumes and networks so far
	calls      []string
	faults     map[string][]fault
	down       error
	session    *session
}

type entry struct {
	engine.Container
	order      int
	started    bool // ever
	byHand     bool // stopped by a person
	generation int  // of the process; timers of an older one do nothing
	restarts   int
}

type fault struct {
	after bool
	err   error
}

// session is one life of the engine's process.
type session struct {
	gone chan struct{}
	subs []chan engine.Event
	sent []sent // it remembers no others
	ends bool   // it takes no new connections
}

// sent is a signal that the engine has sent.
type sent struct {
	id     string
	at     time.Time
	signal unix.Signal
}

// New returns an engine without containers.
func New() *Engine {
	return &Engine{
		containers: map[string]*entry{},
		images:     map[string]Image{},
		noNetworks: map[string]bool{},
		faults:     map[string][]fault{},
		session:    &session{gone: make(chan struct{})},
	}
}

// AddImage makes name mean the image; a name that was there moves.
func (e *Engine) AddImage(name string, img Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[name] = img
	e.images[img.ID] = img
}

// RemoveImage makes the engine forget an image, by name or id.
func (e *Engine) RemoveImage(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.images, name)
}

// RemoveNetwork makes every later connection to the network fail.
func (e *Engine) RemoveNetwork(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noNetworks[name] = true
}

// Fail makes the next call of that method fail before it has any effect.
func (e *Engine) Fail(call string, err error) { e.fail(call, fault{err: err}) }

// FailAfter makes the next call of that method have its effect and then fail, as
// when the answer is lost.
func (e *Engine) FailAfter(call string, err error) { e.fail(call, fault{after: true, err: err}) }

// Mend takes back the failures that have not happened yet, and answers again.
func (e *Engine) Mend() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults, e.down = map[string][]fault{}, nil
}

func (e *Engine) fail(call string, f fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[call] = append(e.faults[call], f)
}

// SetDown makes every call fail as if nobody listened, until it is set to false.
func (e *Engine) SetDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = nil
	if down {
		e.down = fmt.Errorf("connect to the engine: %w", errdefs.ErrUnavailable)
		e.endSession()
	}
}

// Calls returns the calls so far that change something, in words.
func (e *Engine) Calls() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// All returns every container, oldest first.
func (e *Engine) All() []engine.Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []engine.Container
	for _, c := range e.sorted() {
		out = append(out, e.look(c))
	}
	return out
}

// begin checks that the engine answers and whether a fault is due. It is called
// with the lock held.
func (e *Engine) begin(ctx context.Context, call string) (after error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.down != nil {
		return nil, e.down
	}
	if queue := e.faults[call]; len(queue) > 0 {
		e.faults[call] = queue[1:]
		if queue[0].after {
			return queue[0].err, nil
		}
		return nil, queue[0].err
	}
	return nil, nil
}

func (e *Engine) note(format string, args ...any) {
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

func (e *Engine) sorted() []*entry {
	var out []*entry
	for _, c := range e.containers {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *entry) int { return a.order - b.order })
	return out
}

func (e *Engine) find(ref string) (*entry, error) {
	if c := e.containers[ref]; c != nil {
		return c, nil
	}
	var found *entry
	for _, c := range e.containers {
		if c.Name == ref {
			return c, nil
		}
		if len(ref) >= engine.ShortIDLen && strings.HasPrefix(c.ID, ref) && (found == nil || c.order < found.order) {
			found = c
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

// newID returns 64 hexadecimal digits, the same in every run.
func (e *Engine) newID(kind string) string {
	e.made++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, e.made))
	return hex.EncodeToString(sum[:])
}

// Ping implements the interface of the engine's users.
func (e *Engine) Ping(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.begin(ctx, "Ping")
	return err
}

// Inspect returns one container by id, short id or name.
func (e *Engine) Inspect(ctx context.Context, id string) (engine.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "Inspect"); err != nil {
		return engine.Container{}, err
	}
	c, err := e.find(id)
	if err != nil {
		return engine.Container{}, err
	}
	return e.look(c), nil
}

// List returns the ids of the containers with all of the labels, oldest first.
func (e *Engine) List(ctx context.Context, labels ...string) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "List"); err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range e.sorted() {
		if !slices.ContainsFunc(labels, func(l string) bool { return !hasLabel(c.Container, l) }) {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

// InNetworkOf returns the ids of the containers in the network of the one with id.
func (e *Engine) InNetworkOf(ctx context.Context, id string) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "InNetworkOf"); err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range e.sorted() {
		if host := c.Spec.HostConfig; host != nil && c.Running() && host.NetworkMode.ConnectedContainer() == id {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

func hasLabel(c engine.Container, filter string) bool {
	key, value, hasValue := strings.Cut(filter, "=")
	got, ok := c.Labels()[key]
	return ok && (!hasValue || got == value)
}

// ImageID returns what an image's name means now.
func (e *Engine) ImageID(ctx context.Context, name string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "ImageID"); err != nil {
		return "", err
	}
	img, ok := e.images[name]
	if !ok {
		return "", fmt.Errorf("no such image: %s: %w", name, errdefs.ErrNotFound)
	}
	return img.ID, nil
}

// Create makes a container with all the networks of its specification.
func (e *Engine) Create(ctx context.Context, name string, spec engine.Spec) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Create")
	if err != nil {
		return "", err
	}
	if taken, err := e.find(name); err == nil {
		return "", fmt.Errorf("the container name %s is in use by %s: %w", name, taken.ShortID(), errdefs.ErrConflict)
	}
	spec = copyOf(spec)
	img, ok := e.images[spec.Config.Image]
	if !ok {
		return "", fmt.Errorf("no such image: %s: %w", spec.Config.Image, errdefs.ErrNotFound)
	}
	for net, ep := range spec.Networks {
		if ep != nil && len(ep.MacAddress) > 0 {
			return "", fmt.Errorf("endpoint settings of %s have a MAC address: %w", net, errdefs.ErrInvalidArgument)
		}
	}
	c := &entry{order: e.made}
	c.ID = e.newID("container")
	c.Name, c.ImageID, c.Spec = name, img.ID, spec
	c.State.Status = container.StateCreated
	c.Networks = map[string]engine.Endpoint{}
	if c.Spec.HostConfig == nil {
		c.Spec.HostConfig = &container.HostConfig{}
	}
	if c.Spec.HostConfig.RestartPolicy.Name == "" {
		c.Spec.HostConfig.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if mode := c.Spec.HostConfig.NetworkMode; c.Spec.Config.Hostname == "" && !mode.IsHost() && !mode.IsContainer() {
		c.Spec.Config.Hostname = c.ShortID()
	}
	e.mountVolumes(c, img)
	networks := c.Spec.Networks
	c.Spec.Networks = map[string]*network.EndpointSettings{}
	for net, ep := range networks {
		e.connect(c, net, ep)
	}
	e.containers[c.ID] = c
	e.note("create %s", name)
	e.publish("create", c)
	return c.ID, after
}

// mountVolumes makes a new volume for every place that asks for one and names
// none.
func (e *Engine) mountVolumes(c *entry, img Image) {
	hc := c.Spec.HostConfig
	for _, b := range hc.Binds {
		parts := strings.Split(b, ":")
		m := engine.Mount{Type: "volume", Name: parts[0], Source: "/volumes/" + parts[0], Destination: path.Clean(parts[1])}
		if strings.HasPrefix(parts[0], "/") {
			m = engine.Mount{Type: "bind", Source: parts[0], Destination: path.Clean(parts[1])}
		}
		m.Writable = len(parts) < 3 || !slices.Contains(strings.Split(parts[2], ","), "ro")
		c.Mounts = append(c.Mounts, m)
	}
	for _, m := range hc.Mounts {
		em := engine.Mount{Type: string(m.Type), Source: m.Source, Destination: path.Clean(m.Target), Writable: !m.ReadOnly}
		if m.Type == mount.TypeVolume {
			if em.Name = m.Source; em.Name == "" {
				em.Name = e.newID("volume")
			}
			em.Source = "/volumes/" + em.Name
		}
		c.Mounts = append(c.Mounts, em)
	}
	wanted := slices.Clone(img.Volumes)
	for dest := range c.Spec.Config.Volumes {
		wanted = append(wanted, dest)
	}
	slices.Sort(wanted)
	for _, dest := range slices.Compact(wanted) {
		dest = path.Clean(dest)
		if !slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Destination == dest }) {
			name := e.newID("volume")
			c.Mounts = append(c.Mounts, engine.Mount{Type: "volume", Name: name, Source: "/volumes/" + name, Destination: dest, Writable: true})
		}
	}
	// The engine reports the volumes of the image among the container's own.
	for _, dest := range img.Volumes {
		if c.Spec.Config.Volumes == nil {
			c.Spec.Config.Volumes = map[string]struct{}{}
		}
		c.Spec.Config.Volumes[dest] = struct{}{}
	}
}

// connect records the endpoint as engine 20.10 reports it, with the short id
// among the aliases.
func (e *Engine) connect(c *entry, net string, ep *network.EndpointSettings) {
	if ep == nil {
		ep = &network.EndpointSettings{}
	}
	ep = copyOf(ep)
	if net != "bridge" && net != "host" && net != "none" && !slices.Contains(ep.Aliases, c.ShortID()) {
		ep.Aliases = append(ep.Aliases, c.ShortID())
	}
	ep.NetworkID = "network-" + net
	c.Spec.Networks[net] = ep
	end := engine.Endpoint{NetworkID: ep.NetworkID, Aliases: slices.Clone(ep.Aliases)}
	if c.Running() {
		ep.IPAddress = e.address(c, ep)
		end.Addresses = []netip.Addr{ep.IPAddress}
	}
	c.Networks[net] = end
}

func (e *Engine) address(c *entry, ep *network.EndpointSettings) netip.Addr {
	if ep.IPAMConfig != nil && ep.IPAMConfig.IPv4Address.IsValid() {
		return ep.IPAMConfig.IPv4Address
	}
	return netip.AddrFrom4([4]byte{172, 18, byte(c.order >> 8), byte(c.order + 2)})
}

// ConnectAll connects the container to the networks it is not on yet.
func (e *Engine) ConnectAll(ctx context.Context, id string, spec engine.Spec) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "ConnectAll")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	for net, ep := range spec.Networks {
		if _, on := c.Networks[net]; !on {
			e.connect(c, net, ep)
		}
	}
	return after
}

// Connect puts a container on a network.
func (e *Engine) Connect(ctx context.Context, id, net string, ep *network.EndpointSettings) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Connect")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if e.noNetworks[net] {
		return fmt.Errorf("network %s not found: %w", net, errdefs.ErrNotFound)
	}
	if _, on := c.Networks[net]; on {
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", c.Name, net, errdefs.ErrPermissionDenied)
	}
	e.connect(c, net, ep)
	e.note("connect %s to %s", c.Name, net)
	e.publish(engine.ActionNetworkConnect, c)
	return after
}

// Disconnect takes a container off a network.
func (e *Engine) Disconnect(ctx context.Context, id, net string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Disconnect")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if _, on := c.Networks[net]; !on {
		return fmt.Errorf("container %s is not connected to network %s: %w", c.Name, net, errdefs.ErrPermissionDenied)
	}
	delete(c.Networks, net)
	delete(c.Spec.Networks, net)
	e.note("disconnect %s from %s", c.Name, net)
	return after
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, id, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Rename")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if taken, err := e.find(name); err == nil {
		return fmt.Errorf("the container name %s is in use by %s: %w", name, taken.ShortID(), errdefs.ErrConflict)
	}
	e.note("rename %s to %s", c.Name, name)
	c.Name = name
	e.publish("rename", c)
	return after
}

// SetRestartPolicy changes what happens when the container ends.
func (e *Engine) SetRestartPolicy(ctx context.Context, id string, policy container.RestartPolicy) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "SetRestartPolicy")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if c.Spec.HostConfig.AutoRemove {
		return fmt.Errorf("restart policy cannot be updated because AutoRemove is enabled for the container: %w", errdefs.ErrInvalidArgument)
	}
	c.Spec.HostConfig.RestartPolicy = policy
	e.note("restart policy of %s: %s", c.Name, policy.Name)
	return after
}

// Events streams what happens from now on. As the real one's, the first channel
// stays open when the engine goes away; the second says so.
func (e *Engine) Events(ctx context.Context) (<-chan engine.Event, <-chan error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out, failed := make(chan engine.Event), make(chan error, 1)
	feed := make(chan engine.Event, 4096)
	s := e.session
	s.subs = append(s.subs, feed)
	go func() {
		for {
			select {
			case ev := <-feed:
				select {
				case out <- ev:
				case <-ctx.Done():
					close(out)
					return
				}
			case <-s.gone:
				failed <- io.ErrUnexpectedEOF
				return
			case <-ctx.Done():
				close(out)
				return
			}
		}
	}()
	return out, failed
}

func (e *Engine) publish(action string, c *entry) {
	labels := map[string]string{"name": c.Name, "image": c.Spec.Config.Image}
	maps.Copy(labels, c.Labels())
	ev := engine.Event{Action: action, ID: c.ID, Labels: labels}
	if action == engine.ActionNetworkConnect {
		ev.Labels = nil
	}
	for _, sub := range e.session.subs {
		select {
		case sub <- ev:
		default: // the engine drops events of a reader that is too slow
		}
	}
}

func (e *Engine) endSession() {
	close(e.session.gone)
	e.session = &session{gone: make(chan struct{})}
}

// look is what a caller gets of a container.
func (e *Engine) look(c *entry) engine.Container {
	out := seen(c.Container)
	if e.Targets != nil {
		out.Given = e.Targets(target.Container{Name: out.Name, Labels: out.Labels()})
	}
	return out
}

// seen is a container as a caller sees it: what the engine changes later is not
// changed in it.
func seen(c engine.Container) engine.Container {
	cfg, hc := *c.Spec.Config, *c.Spec.HostConfig
	cfg.Labels = maps.Clone(cfg.Labels)
	cfg.Env = slices.Clone(cfg.Env)
	c.Spec.Config, c.Spec.HostConfig = &cfg, &hc
	networks := map[string]*network.EndpointSettings{}
	for name, ep := range c.Spec.Networks {
		networks[name] = ep.Copy()
	}
	c.Spec.Networks = networks
	c.Mounts = slices.Clone(c.Mounts)
	c.Networks = maps.Clone(c.Networks)
	return c
}

// copyOf makes the engine independent of what a caller gave it.
func copyOf[T any](in T) T {
	data, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	var out T
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}
