package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/address/lane"
	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/vault"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/eventlog"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/notify"
	"github.com/docker-secret-operator/dso/internal/private"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/local"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/target"
	"github.com/docker-secret-operator/dso/internal/trace"
)

// Config says where the agent finds and keeps things.
type Config struct {
	Engine   string    // the engine's address; empty: DOCKER_HOST or the default socket
	StateDir string    // durable state
	RunDir   string    // sockets and the private tmpfs, gone with the host
	VaultDir string    // of the local vault; empty: ~/.dso of the agent's user
	LockDir  string    // of the engines' locks: the same one for every agent of the host
	Front    string    // the program dso-front; empty: beside the agent's own
	Standby  bool      // wait for another agent's end instead of failing
	OnHost   bool      // it is a container: what it mounts must be seen by the host
	Sockets  Inherited // those that systemd listens on
	Version  string
	Log      *slog.Logger

	ConfigFile string         // the dso.yaml that was named; empty: the usual places
	Loaded     *config.Config // what it said at the start; nil: nothing
	Bad        error          // why it cannot be used; then the last good one is taken
	Level      *slog.LevelVar // of Log, set by the configuration; may be nil
}

// Agent is a running agent's parts.
type Agent struct {
	cfg        Config
	log        *slog.Logger
	started    time.Time
	claims     *claims
	metrics    *metrics.Metrics
	tracer     *trace.Tracer
	engine     *engine.Client
	settings   *settings
	sealed     sealed // nil: nothing is sealed
	vault      vault.Service
	resolver   *resolve.Resolver
	deliveries *deliver.Store
	fronts     *fronts
	lane       *lane.Lane
	journal    *rotation.Journal
	history    *rotation.History
	locks      *rotation.Locks
	controller *reconcile.Controller
	hub        hub
	events     *eventlog.Log
	audit      *audit.Log
	notifier   *notify.Notifier
}

// Run opens an agent and lets it work until ctx ends, then parks what is going on
// and returns. A standby whose engine was silent when it came up, and turns out to
// be another agent's, stands by again.
func Run(ctx context.Context, cfg Config) error {
	patience := askFirst
	for {
		a, err := open(ctx, cfg, patience)
		if err == nil {
			err = a.Run(ctx)
		}
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil
		case !cfg.Standby || !errors.Is(err, ErrSecondAgent):
			return err
		}
		cfg.Log.Warn("standby goes back to waiting", "error", err)
		patience = askAgain
	}
}

// keptEvents is how many events the agent remembers.
const keptEvents = 1000

// How long a standby asks the engine who it is before it begins. An engine that
// starts may be silent until the runtime's socket is served; one that has just
// answered only takes its time.
const (
	askFirst = 500 * time.Millisecond
	askAgain = 10 * time.Second
)

// tracesLast bounds how long an agent that ends waits for its last traces to be taken.
const tracesLast = 2 * time.Second

// open takes the agent's own locks and opens the state; a standby waits for the
// locks until ctx ends. Nothing runs yet.
func open(ctx context.Context, cfg Config, patience time.Duration) (*Agent, error) {
	events := eventlog.New(keptEvents)
	a := &Agent{cfg: cfg, log: slog.New(events.Handler(cfg.Log.Handler())), events: events, claims: &claims{dir: cfg.LockDir}, metrics: metrics.New()}
	for _, outcome := range rotation.Outcomes {
		a.metrics.Rotations.May(label.Strategies, string(outcome))
	}
	if cfg.Standby {
		a.claims.standBy = a.standBy
	}
	err := a.claimAll(ctx, patience)
	if err == nil {
		a.started = time.Now()
		err = a.openDirs()
	}
	if err == nil {
		err = a.openStores()
	}
	if err != nil {
		return nil, errors.Join(err, a.claims.release())
	}
	a.tracer = trace.Open(ctx, cfg.Version, a.log)
	return a, nil
}

// claimAll takes the directories. A standby takes the engine too, if it answers:
// as long as another agent has it, this one serves nobody.
func (a *Agent) claimAll(ctx context.Context, patience time.Duration) (err error) {
	if a.engine, err = engine.Open(a.cfg.Engine, a.claims.mayChange); err != nil {
		return err
	}
	if err := openLockDir(a.cfg.LockDir); err != nil {
		return err
	}
	if err := checkContainer(a.cfg.LockDir); err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.StateDir, 0o755); err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	if err := os.MkdirAll(a.cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("create run directory: %w", err)
	}
	if err := a.claims.takeDirs(ctx, a.cfg.StateDir, a.cfg.RunDir); err != nil || !a.cfg.Standby {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id, err := a.engine.Identity(asking)
	if err != nil {
		return ctx.Err() // the controller asks again
	}
	err = a.claims.takeEngine(ctx, id, true)
	a.claims.engineGone() // there is no connection yet
	return err
}

// standBy tells once whom this agent waits for. To systemd a standby is ready: it
// is what it shall be.
func (a *Agent) standBy(other *SecondAgentError) {
	a.log.Info("agent stands by", "what", other.What, "pid", other.Holder.PID, "since", other.Holder.StartTime)
	a.notify(daemon.SdNotifyReady + "\nSTATUS=standing by: " + other.Error())
}

// claimEngine makes the engine that answers this agent's own, on every connection.
// Without that nothing may be done in it, and an agent whose engine is another's is
// of no use: stop ends it.
func (a *Agent) claimEngine(ctx context.Context, stop func(error)) error {
	id, err := a.engine.Identity(ctx)
	if err != nil {
		return err
	}
	if err = a.claims.takeEngine(ctx, id, false); err != nil {
		stop(err)
	}
	return err
}

func (a *Agent) state(parts ...string) string {
	return filepath.Join(append([]string{a.cfg.StateDir}, parts...)...)
}

func (a *Agent) private() string { return filepath.Join(a.cfg.RunDir, "private") }

// hostTree is the host's tree of files, for an agent in a container that sees the host's
// processes.
const hostTree = "/proc/1/root"

func (a *Agent) openDirs() error {
	for _, dir := range []string{a.state("state"), a.state("locks"), a.state("fronts")} {
		if err := durable.MkdirPrivate(dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) openStores() error {
	var err error
	// First, before anything is changed: one of a newer version ends this agent.
	if a.journal, err = rotation.OpenJournal(a.state("state", "rotations.json"), time.Now()); a.broken(err) {
		return err
	}
	if a.history, err = rotation.OpenHistory(a.state("state", "history.json"), time.Now()); a.broken(err) {
		return err
	}
	a.remember(a.journal.All()...) // an agent that died may not have come to it
	a.locks = rotation.NewLocks(a.state("locks"))
	a.sweepLocks()
	swappable, err := a.cfg.mountPrivate(a.private())
	if err != nil {
		return err
	}
	if swappable {
		a.log.Warn(msgSwappable, "dir", a.private())
	}
	if a.vault.Dir = a.cfg.VaultDir; a.vault.Dir == "" {
		if a.vault.Dir, err = localvault.DefaultDir(); err != nil {
			return err
		}
	}
	key, err := fingerprintKey(a.state("state", "fingerprint.key"), time.Now())
	if a.broken(err) {
		return err
	}
	if err := a.openSettings(provider.NewFingerprint(key)); err != nil {
		return err
	}
	a.openNotifier()
	a.openAudit()
	a.engine.Targets = func(c target.Container) target.Given { return a.settings.rules.Load().For(c) }
	a.resolver = a.settings.resolver
	a.metrics.Configuration(func() bool { _, problems := a.settings.rejected(); return len(problems) > 0 })
	a.metrics.Watch(func() []metrics.Provider { return providerMetrics(a.settings.watch.Status()) })
	a.vault.IsProvider = func(name string) bool { return a.resolver.Providers().Has(name) }
	if a.deliveries, err = deliver.Open(deliver.Config{
		Root: a.private(), Pins: a.state("state", "pins.json"), Resolver: a.resolver, Sealed: a.sealed, Log: a.log,
		Strict: func() bool { return a.settings.rules.Load().Strict },
	}); a.broken(err) {
		return err
	}
	a.metrics.Stale(a.deliveries.StaleSince)
	a.metrics.Open(a.open)
	a.metrics.Agent.Began(a.cfg.Version, a.started)
	if err := a.sweep(); err != nil {
		return err
	}
	programs := ""
	if a.cfg.OnHost {
		programs = hostTree
	}
	a.lane = lane.New(a.log, programs, a.settings.fastLane)
	a.fronts = &fronts{engine: a.engine, maps: address.New(a.state("fronts")), lane: a.lane, log: a.log, dir: a.state("fronts"), binary: a.frontProgram()}
	aliases, err := reconcile.OpenAliases(a.state("state", "networks.json"), a.engine)
	if a.broken(err) {
		return err
	}
	a.controller = a.newController(aliases)
	if a.controller.Frozen {
		a.log.Error("the state directory is on a disk that is read-only: containers start, nothing is rotated by itself, and what is recorded is lost with the next boot", "dir", a.cfg.StateDir)
	}
	return nil
}

// openSettings takes the configuration, or the last good one in its place, and opens the
// sealed values as it says.
func (a *Agent) openSettings(fp provider.Fingerprint) (err error) {
	open := func() error {
		cfg := a.cfg
		cfg.Log = a.log // what happens there is an event too
		a.settings, err = newSettings(cfg, local.New(a.vault.Dir), fp, a.sealed)
		return err
	}
	if a.cfg.Bad == nil {
		if a.sealed, err = a.openSealed(); err != nil {
			return err
		}
		if err = open(); err == nil || a.cfg.Loaded == nil || a.cfg.Loaded.File == "" {
			return err
		}
		a.cfg.Bad = err // no provider can be made of it
	}
	if err := a.restoreGood(); err != nil {
		return err
	}
	return open()
}

// sweep removes what an agent or a runtime that was killed left half written. The
// agent's own locks are held: nobody else writes there.
func (a *Agent) sweep() error {
	err := private.SweepBundles(a.private())
	for _, dir := range []string{a.state("state"), a.state("fronts"), private.Records(a.private()), private.Envs(a.private())} {
		err = errors.Join(err, durable.Sweep(dir))
	}
	return err
}

// broken reports whether an agent cannot run after err. With a state file that was
// unreadable it can: the evidence is kept, and recovery rebuilds what it held.
func (a *Agent) broken(err error) bool {
	var corrupt *durable.CorruptError
	if errors.As(err, &corrupt) {
		a.log.Warn("state file was unreadable", "file", corrupt.Path, "reason", corrupt.Error(), "quarantine", corrupt.Quarantine,
			"read_generation_before", corrupt.FromLast)
		return false
	}
	return err != nil
}

func (a *Agent) frontProgram() string {
	if a.cfg.Front != "" {
		return a.cfg.Front
	}
	self, err := os.Executable()
	if err != nil {
		return "dso-front"
	}
	return filepath.Join(filepath.Dir(self), "dso-front")
}

// compareEvery is the longest time between two comparisons of everything with what is
// known. Each looks at every container; events and changed versions lead to one at once.
const compareEvery = 10 * time.Minute

func (a *Agent) newController(aliases *reconcile.Aliases) *reconcile.Controller {
	return &reconcile.Controller{
		Engine: a.engine,
		Machine: &rotation.Machine{
			Engine: a.engine, Journal: a.journal, Deliveries: a.deliveries, Fronts: a.fronts,
			Probe: probe, Check: a.engine.RunHealthcheck, Log: a.log, Observe: a.observe,
			Fault: failpoint(os.Getenv(FailpointVariable)),
		},
		Past:       a.history.Past,
		Lost:       a.claims.engineGone,
		Locks:      a.locks,
		Deliveries: a.deliveries,
		Current:    a.settings.watch,
		Window:     a.settings.window,
		Fronts:     a.fronts,
		Ports:      listening,
		Aliases:    aliases,
		Log:        a.log,
		Metrics:    a.metrics.Events,
		Frozen:     volatile(a.cfg.StateDir, a.private()),
		Parallel:   4,
		Interval:   compareEvery,
	}
}

// Run works until ctx ends, then parks what is going on and returns.
func (a *Agent) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.claims.release()) }()
	runtimeSocket, err := a.listen(runtimeSocketName, "runtime.sock", 0o600, -1)
	if err != nil {
		return err
	}
	peopleSocket, err := a.listen(peopleSocketName, "dso.sock", 0o660, groupID("dso"))
	if err != nil {
		return errors.Join(err, runtimeSocket.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	lane := sync.OnceFunc(func() { wg.Go(func() { a.lane.Run(ctx) }) })
	a.controller.Claim = func(life context.Context) error {
		err := a.claimEngine(life, cancel)
		if err == nil {
			lane() // a rotation that is carried on switches it too
		}
		return err
	}
	a.controller.Init(ctx)
	wg.Go(func() { a.serveRuntime(ctx, runtimeSocket) })
	wg.Go(func() {
		if err := api.Serve(ctx, peopleSocket, a, a.log); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() { a.settings.run(ctx) })
	wg.Go(func() { a.openDoors(ctx) })
	wg.Go(func() { a.notifier.Run(ctx) })
	wg.Go(func() {
		a.audit.Run(ctx, func(err error) { a.log.Error("audit log not made durable", "error", err) })
	})
	var isReady atomic.Bool
	wg.Go(func() { a.attend(ctx, &isReady) })
	wg.Go(func() {
		a.controller.Run(ctx, a.settings.watch.Changed(), func() {
			isReady.Store(true)
			a.ready()
		})
	})
	a.log.Info("agent started", "version", a.cfg.Version, "state", a.cfg.StateDir, "vault", a.vault.Dir)
	<-ctx.Done()
	a.log.Info("agent stops")
	wg.Wait()
	a.controller.Wait()
	last, enough := context.WithTimeout(context.WithoutCancel(ctx), tracesLast)
	defer enough()
	if err := a.tracer.Close(last); err != nil {
		a.log.Warn("traces not sent", "error", err)
	}
	err = a.audit.Close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

func (a *Agent) ready() {
	a.log.Info("agent ready")
	a.notify(daemon.SdNotifyReady + "\nSTATUS=")
}

func (a *Agent) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("systemd not notified", "error", err)
	}
}

// listen serves a socket of systemd's, or one of its own.
func (a *Agent) listen(name, file string, mode os.FileMode, gid int) (net.Listener, error) {
	if l, err := a.cfg.Sockets.listener(name); l != nil || err != nil {
		return l, err
	}
	return listen(filepath.Join(a.cfg.RunDir, file), mode, gid)
}

// listen serves a unix socket; what a killed agent left of it is replaced. The
// run directory's lock is held, so nobody else serves it.
func listen(path string, mode os.FileMode, gid int) (net.Listener, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if gid < 0 {
		mode &= 0o700
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// groupID returns the group's number, or -1 when the host has no such group.
func groupID(name string) int {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}
