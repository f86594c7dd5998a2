package reconcile_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/window"
)

// agent is a controller over a host in memory, with the agent's own life.
type agent struct {
	*hosttest.Host
	*reconcile.Controller
	log     *logBuffer
	changed chan struct{} // everything is to be compared
	window  atomic.Pointer[window.Window]
	metrics *metrics.Metrics
	stop    func()
	cancel  func() // begins what stop waits for
}

// logBuffer is a log that tests read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// onHost runs a test in a bubble, on a host with an agent whose controller does
// not run by itself yet.
func onHost(t *testing.T, test func(t *testing.T, a *agent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(t)
		a := newAgent(t, h)
		defer func() { a.stop() }()
		test(t, a)
	})
}

func newAgent(t *testing.T, h *hosttest.Host) *agent {
	t.Helper()
	a := &agent{Host: h, log: &logBuffer{}, changed: make(chan struct{}, 1), metrics: metrics.New()}
	a.window.Store(&window.Window{})
	a.Host.Log = slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.Machine.Log = a.Host.Log
	aliases, err := reconcile.OpenAliases(filepath.Join(h.Dir, "state", "networks.json"), h.Engine)
	assert.NilError(t, err)
	a.Controller = &reconcile.Controller{
		Engine: h.Engine, Claim: func(context.Context) error { return nil }, Lost: func() {},
		Machine: h.Machine, Locks: h.Locks, Deliveries: h.Store, Current: h.Watch, Fronts: h.Fronts,
		Window:  func() window.Window { return *a.window.Load() },
		Past:    h.Past,
		Ports:   func(engine.Container) ([]uint16, error) { return nil, nil },
		Aliases: aliases, Log: a.Host.Log, Metrics: a.metrics.Events, Parallel: 4, Interval: time.Minute,
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.Init(ctx)
	a.cancel = cancel
	a.stop = func() {
		cancel()
		a.Wait()
	}
	return a
}

// run lets the controller work by itself, and returns once it is ready.
func (a *agent) run(t *testing.T) {
	t.Helper()
	<-a.launch()
}

// launch lets the controller work by itself. The channel is closed once it is ready.
func (a *agent) launch() (ready chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	life := a.cancel
	a.cancel = func() {
		life()
		cancel()
	}
	ready = make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { a.Controller.Run(ctx, a.changed, func() { close(ready) }) })
	running.Go(func() { a.watch(ctx) })
	end := a.stop
	a.stop = func() {
		cancel()
		running.Wait()
		end()
	}
	return ready
}

// watch lets the versions be watched, until ctx ends.
func (a *agent) watch(ctx context.Context) {
	var polling sync.WaitGroup
	polling.Go(func() { a.Watch.Run(ctx) })
	defer polling.Wait()
	for {
		select {
		case <-a.Watch.Changed():
			select {
			case a.changed <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// again ends the agent and starts another over the same state.
func (a *agent) again(t *testing.T) *agent {
	t.Helper()
	a.stop()
	a.Boot(t)
	next := newAgent(t, a.Host)
	next.window.Store(a.window.Load())
	a.stop = func() { next.stop() }
	return next
}

// set stores a value, and the store tells that something changed.
func (a *agent) set(path, value string) {
	a.Secrets.Set(path, value)
	a.Watch.Push(secret.DefaultProvider)
}

func id(path string) secret.ID { return secret.ID{Provider: "local", Path: path} }

// has returns the version of a secret that the container was started with.
func (a *agent) has(t *testing.T, name, path string) secret.Version {
	t.Helper()
	vs, _, _ := a.Store.Delivered(a.Container(t, name).ID)
	return vs[id(path)]
}

// names returns the names of all containers, sorted.
func (a *agent) names() []string {
	var names []string
	for _, c := range a.Host.Engine.All() {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

func (a *agent) since(calls []string) []string { return a.Host.Engine.Calls()[len(calls):] }

// badVersion makes version v of app/db one that fails its health check.
func (a *agent) badVersion(v secret.Version) {
	a.Behave = func(_ engine.Container, got secret.Versions) enginetest.Behaviour {
		if got[id("app/db")] == v {
			return enginetest.Behaviour{UnhealthyAfter: 500 * time.Millisecond}
		}
		return enginetest.Behaviour{HealthyAfter: time.Second}
	}
}

var (
	usesDB = hosttest.Env("DB=dso://app/db")
)

func outcomes(results []reconcile.Result) map[string]rotation.Outcome {
	out := map[string]rotation.Outcome{}
	for _, r := range results {
		out[r.Container] = r.Outcome
	}
	return out
}

func contains(t *testing.T, text, want string) {
	t.Helper()
	assert.Assert(t, strings.Contains(text, want), "%q is not in:\n%s", want, text)
}

// settle waits until the host is quiet.
func settle() { time.Sleep(30 * time.Second) }

// up makes a container, starts it, and waits until it is healthy.

func (a *agent) up(t *testing.T, name string, opts ...hosttest.Option) engine.Container {
	t.Helper()
	c := a.Host.Run(t, name, opts...)
	time.Sleep(3 * time.Second)
	return a.Container(t, c.ID)
}

func (a *agent) fronts() *hosttest.Fronts { return a.Host.Fronts }

// Kill ends a container's process.
func (a *agent) Kill(name string) { a.Host.Engine.Kill(name) }
