// Package hosttest is a host in memory, for the tests of what an agent does: an
// engine, a store of secrets, fronts, and the agent's own state on a real
// directory. The agent can die and come back; the rest stays.
package hosttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/seal"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/watch"
)

// Image is the image of the containers that the host makes.
const Image = "app:1"

// Host is the host. Its agent's parts are made anew by [Host.Boot].
type Host struct {
	Dir     string
	Engine  *enginetest.Engine
	Secrets *Secrets
	Fronts  *Fronts
	Log     *slog.Logger
	// Polling is the longest time between two polls of a secret.
	Polling time.Duration
	// NoSeal keeps no values for when the store cannot give them.
	NoSeal bool
	// Strict is the policy of dso.yaml.
	Strict atomic.Bool
	// Behave says what a container does that was started with these versions.
	Behave func(c engine.Container, got secret.Versions) enginetest.Behaviour

	mu       sync.Mutex
	Resolver *resolve.Resolver
	Watch    *watch.Watch
	Store    *deliver.Store
	Journal  *rotation.Journal
	Machine  *rotation.Machine
	Locks    *rotation.Locks
}

// New returns a host whose agent runs.
func New(t *testing.T) *Host {
	h := &Host{
		Dir:     Dir(t),
		Engine:  enginetest.New(),
		Secrets: &Secrets{values: map[string][]string{}},
		Fronts:  &Fronts{targets: map[string][]string{}, connections: map[string]int{}},
		Log:     slog.New(slog.DiscardHandler),

		Polling: time.Minute,
	}
	h.Engine.AddImage(Image, enginetest.Image{ID: "sha256:one"})
	h.Engine.OnStart = h.onStart
	h.Engine.OnSignal, h.Engine.OnExec = h.onReload, h.onReload
	h.Boot(t)
	return h
}

// Dir returns a directory for one test, in memory where there is such a thing: the
// agent syncs all it writes.
func Dir(t testing.TB) string {
	d, err := os.MkdirTemp("/dev/shm", "dso-hosttest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

// Boot starts an agent over what the one before left on disk.
func (h *Host) Boot(t *testing.T) {
	t.Helper()
	for _, d := range []string{"private", "state", "locks"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var keeps deliver.Sealed
	var reads resolve.Sealed
	if !h.NoSeal {
		sealed, problems, err := seal.Open(context.Background(), filepath.Join(h.Dir, "sealed"), seal.ByFile)
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		keeps, reads = sealed, sealed
	}
	source := &watch.Source{Provider: h.Secrets, Name: secret.DefaultProvider, Attempts: 1, Log: h.Log}
	resolver := resolve.New(provider.NewRegistry(map[string]provider.Provider{secret.DefaultProvider: source}), reads)
	versions := watch.New(resolver)
	versions.Over(map[string]*watch.Source{secret.DefaultProvider: source}, h.Polling)
	store, err := deliver.Open(deliver.Config{
		Root: filepath.Join(h.Dir, "private"), Pins: filepath.Join(h.Dir, "state", "pins.json"),
		Resolver: resolver, Sealed: keeps, Strict: h.Strict.Load, Log: h.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	journal, err := rotation.OpenJournal(h.JournalPath(), time.Now())
	var corrupt *durable.CorruptError
	if err != nil && !errors.As(err, &corrupt) { // what was unreadable is set aside
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Resolver, h.Watch, h.Store, h.Journal = resolver, versions, store, journal
	h.Locks = rotation.NewLocks(filepath.Join(h.Dir, "locks"))
	h.Machine = &rotation.Machine{
		Engine: h.Engine, Journal: journal, Deliveries: store, Fronts: h.Fronts, Log: h.Log,
		Probe: func(context.Context, engine.Container, uint16) error { return nil },
	}
}

// Die is the agent's SIGKILL: from now on nobody answers a starting container.
func (h *Host) Die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Store = nil
}

// JournalPath is where the rotation journal lies.
func (h *Host) JournalPath() string { return filepath.Join(h.Dir, "state", "rotations.json") }

// Past is what the journal knows of rotations that are over.
func (h *Host) Past() []rotation.Entry {
	return slices.DeleteFunc(h.Machine.Journal.All(), func(e rotation.Entry) bool { return e.Unfinished() })
}

// onStart is dso-runtime and the process.
func (h *Host) onStart(c engine.Container) (enginetest.Behaviour, error) {
	h.mu.Lock()
	store, behave := h.Store, h.Behave
	h.mu.Unlock()
	var got secret.Versions
	if refs := c.References(); len(refs)+len(c.Given.Missing) > 0 && c.Spec.HostConfig.Runtime == "dso" {
		if store == nil {
			return enginetest.Behaviour{}, errors.New("OCI runtime create failed: dso: no agent answers")
		}
		req := wire.DeliverRequest{
			ContainerID: c.ID, Name: c.Name, Project: c.Project(), Missing: c.Given.Missing, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		}
		for _, r := range refs {
			req.References = append(req.References, wire.Reference{Variable: r.Variable, Ref: r.Ref.String(), Given: r.Given})
		}
		if _, err := store.Deliver(context.Background(), req); err != nil {
			return enginetest.Behaviour{}, fmt.Errorf("OCI runtime create failed: dso: %w", err)
		}
		got, _, _ = store.Delivered(c.ID)
	}
	if behave == nil {
		return enginetest.Behaviour{HealthyAfter: time.Second}, nil
	}
	return behave(c, got), nil
}

// onReload is a process that reads its files anew.
func (h *Host) onReload(c engine.Container) enginetest.Behaviour {
	h.mu.Lock()
	store, behave := h.Store, h.Behave
	h.mu.Unlock()
	if store == nil || behave == nil {
		return enginetest.Behaviour{}
	}
	got, _, _ := store.Delivered(c.ID)
	return behave(c, got)
}

// Option changes the container that [Host.Run] makes.
type Option func(*engine.Spec)

// Label sets a label.
func Label(key, value string) Option {
	return func(s *engine.Spec) { s.Config.Labels[key] = value }
}

// Service puts the container into a Compose service, with its network and alias.
func Service(project, service string) Option {
	return func(s *engine.Spec) {
		s.Config.Labels[engine.LabelComposeProject] = project
		s.Config.Labels[engine.LabelComposeService] = service
		net := project + "_default"
		s.HostConfig.NetworkMode = container.NetworkMode(net)
		s.Networks = map[string]*network.EndpointSettings{net: {Aliases: []string{service}}}
	}
}

// Env adds a variable.
func Env(kv string) Option { return func(s *engine.Spec) { s.Config.Env = append(s.Config.Env, kv) } }

// Policy sets the restart policy.
func Policy(name container.RestartPolicyMode) Option {
	return func(s *engine.Spec) { s.HostConfig.RestartPolicy.Name = name }
}

// Spec returns the specification of a small application that DSO looks after.
func Spec(opts ...Option) engine.Spec {
	s := engine.Spec{
		Config: &container.Config{Image: Image, Labels: map[string]string{}},
		HostConfig: &container.HostConfig{
			Runtime: "dso", NetworkMode: "bridge",
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped},
		},
		Networks: map[string]*network.EndpointSettings{"bridge": {}},
	}
	for _, o := range opts {
		o(&s)
	}
	return s
}

// Run makes and starts a container, and returns it once it is up for a while.
func (h *Host) Run(t *testing.T, name string, opts ...Option) engine.Container {
	t.Helper()
	id, err := h.Engine.Create(t.Context(), name, Spec(opts...))
	if err == nil {
		err = h.Engine.Start(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h.Container(t, id)
}

// Container looks at a container by name or id.
func (h *Host) Container(t *testing.T, name string) engine.Container {
	t.Helper()
	c, err := h.Engine.Inspect(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Secrets is a store of secrets in memory. The versions of a secret are "1",
// "2", …
type Secrets struct {
	mu     sync.Mutex
	values map[string][]string
	err    error
	// The calls that were made.
	Versions, Gets atomic.Int64
	// OnGet, when set, is called before a value is read; v is empty for the
	// current version. An error stands for the store's own.
	OnGet func(path string, v secret.Version) error
	// AfterGet, when set, is called when one was read. Several may be read at a time.
	AfterGet func(path string)
}

// Set stores a value and returns its version.
func (s *Secrets) Set(path, value string) secret.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[path] = append(s.values[path], value)
	return secret.Version(strconv.Itoa(len(s.values[path])))
}

// Break makes every call fail until it is called with nil.
func (s *Secrets) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Version implements provider.Provider.
func (s *Secrets) Version(_ context.Context, path string) (secret.Version, error) {
	s.Versions.Add(1)
	return s.current(path)
}

func (s *Secrets) current(path string) (secret.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	if len(s.values[path]) == 0 {
		return "", provider.ErrNotFound
	}
	return secret.Version(strconv.Itoa(len(s.values[path]))), nil
}

// Get implements provider.Provider.
func (s *Secrets) Get(_ context.Context, path string, v secret.Version) (secret.Value, secret.Version, error) {
	if s.AfterGet != nil {
		defer func() { s.AfterGet(path) }()
	}
	s.Gets.Add(1)
	if s.OnGet != nil {
		if err := s.OnGet(path, v); err != nil {
			return secret.Value{}, "", err
		}
	}
	if v == "" {
		var err error
		if v, err = s.current(path); err != nil {
			return secret.Value{}, "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return secret.Value{}, "", s.err
	}
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 || n > len(s.values[path]) {
		return secret.Value{}, "", provider.ErrNoVersion
	}
	return secret.NewValue([]byte(s.values[path][n-1])), v, nil
}

// Fronts are the fronts of all containers with the label dso.front.
type Fronts struct {
	mu          sync.Mutex
	targets     map[string][]string
	connections map[string]int // by short id of the container
	DrainErr    error
}

// Find implements reconcile.Fronts.
func (f *Fronts) Find(_ context.Context, c engine.Container) (*rotation.Front, error) {
	if c.Label(label.Front) == "" {
		return nil, nil
	}
	return &rotation.Front{Key: c.Project() + "_" + c.Service(), ID: "front"}, nil
}

// Serve implements reconcile.Fronts.
func (f *Fronts) Serve(_ context.Context, front rotation.Front, ready, starting []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := slices.Clone(ready)
	for _, id := range starting {
		if slices.Contains(f.targets[front.Key], id) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		f.targets[front.Key] = ids
	}
	return nil
}

// Announce implements rotation.Fronts.
func (*Fronts) Announce(context.Context, rotation.Front, string, string) error { return nil }

// Replace implements rotation.Fronts.
func (f *Fronts) Replace(_ context.Context, front rotation.Front, from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := slices.DeleteFunc(f.targets[front.Key], func(t string) bool { return t == from || t == to })
	f.targets[front.Key] = append(rest, to)
	return nil
}

// Draining implements rotation.Fronts.
func (f *Fronts) Draining(_ context.Context, _ rotation.Front, c engine.Container) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connections[c.ShortID()], f.DrainErr
}

// Connect opens so many connections to a container.
func (f *Fronts) Connect(shortID string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connections[shortID] = n
}

// Targets returns where the front sends new connections, sorted.
func (f *Fronts) Targets(key string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.targets[key]))
}
