package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/vault"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
	"github.com/docker-secret-operator/dso/internal/watch"
	"github.com/docker-secret-operator/dso/internal/window"
)

// settings is the configuration that holds and the providers made of it. A new
// configuration takes the place of the one before as a whole, or not at all; the
// providers that it describes in the same words stay the ones they are.
type settings struct {
	log      *slog.Logger
	explicit string // the file that was named; empty: the usual places
	level    *slog.LevelVar
	resolver *resolve.Resolver
	watch    *watch.Watch // over the same providers
	local    provider.Provider
	fp       provider.Fingerprint
	sealed   resolve.Sealed // may be nil
	leases   string         // directory of what is leased; empty: nothing is remembered
	// unwrapped is what wrapping tokens held, by server and provider.
	unwrapped map[string]*vault.Unwrapped
	// settle is how long a file that changed must be quiet before it is read.
	settle time.Duration
	// targetsFile is where dso-runtime finds the rules; empty: they are not written.
	targetsFile string
	rules       atomic.Pointer[target.Rules]

	mu       sync.Mutex
	config   *config.Config
	opens    window.Window // for rotations
	sources  map[string]*source
	taken    chan struct{}        // a configuration was taken
	use      func(*config.Config) // told of each; may be nil
	seen     [sha256.Size]byte    // of the file that was read last, good or bad
	wrong    []string             // with the file, when it is not what holds
	upkeep   context.Context      // nil until run
	finished sync.WaitGroup       // what looks after the providers
}

// source is one configured provider.
type source struct {
	described config.Provider
	raw       provider.Provider
	asked     *watch.Source // what everybody asks
	stop      context.CancelFunc
}

// LoadConfig reads the configuration: the explicit file, or the one in the usual
// places, or none.
func LoadConfig(explicit string) (*config.Config, error) {
	path, err := config.Find(explicit)
	if errors.Is(err, config.ErrNone) {
		return config.Default(), nil
	}
	if err != nil {
		return nil, err
	}
	return config.Load(path)
}

func newSettings(cfg Config, local provider.Provider, fp provider.Fingerprint, sealed resolve.Sealed) (*settings, error) {
	s := &settings{
		log: cfg.Log, explicit: cfg.ConfigFile, level: cfg.Level, local: local, fp: fp, settle: 100 * time.Millisecond,
		resolver: resolve.New(provider.Registry{}, sealed), sources: map[string]*source{}, taken: make(chan struct{}, 1),
		sealed: sealed, unwrapped: map[string]*vault.Unwrapped{},
	}
	s.watch = watch.New(s.resolver)
	if cfg.StateDir != "" {
		s.targetsFile = filepath.Join(cfg.StateDir, "state", "targets.json")
		s.leases = filepath.Join(cfg.StateDir, "state", "leases")
	}
	first := cfg.Loaded
	if first == nil {
		first = config.Default()
	}
	s.seen = first.Sum
	if cfg.Bad != nil {
		s.wrong = problemTexts(cfg.Bad)
	}
	if err := s.apply(first); err != nil {
		return nil, err
	}
	if cfg.Bad == nil {
		s.keepGood(first, time.Now())
		s.warn(first)
	}
	return s, nil
}

// apply makes a configuration the one that holds.
func (s *settings) apply(c *config.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*source{}
	var errs []error
	for name, described := range c.Providers {
		if old := s.sources[name]; old != nil && reflect.DeepEqual(old.described, described) {
			next[name] = old
			continue
		}
		src, err := s.source(name, described)
		errs = append(errs, err)
		next[name] = src
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	opens, err := c.Defaults.Rotation.Window.Parse()
	if err != nil {
		return err
	}
	rules := targetsOf(c)
	if s.targetsFile != "" {
		if err := target.Save(s.targetsFile, rules); err != nil {
			return err
		}
	}
	s.rules.Store(&rules)
	if next[secret.DefaultProvider] == nil {
		next[secret.DefaultProvider] = s.bare(s.sources[secret.DefaultProvider])
	}
	byName, asked := map[string]provider.Provider{}, map[string]*watch.Source{}
	for name, src := range next {
		byName[name], asked[name] = src.asked, src.asked
	}
	s.resolver.Use(provider.NewRegistry(byName))
	s.watch.Over(asked, c.Agent.Watch.PollingInterval)
	for name, old := range s.sources {
		if next[name] != old && old.stop != nil {
			old.stop()
		}
	}
	before := s.config
	s.config, s.sources, s.opens = c, next, opens
	if s.use != nil {
		s.use(c)
	}
	s.look()
	if s.level != nil {
		s.level.Set(levels[c.Logging.Level])
	}
	if before == nil {
		return nil
	}
	if before.Logging.Format != c.Logging.Format {
		s.log.Warn("logging.format is taken at the agent's next start", "format", c.Logging.Format)
	}
	if before.Agent.Seal != c.Agent.Seal {
		s.log.Warn("agent.seal is taken at the agent's next start", "seal", c.Agent.Seal)
	}
	select {
	case s.taken <- struct{}{}:
	default:
	}
	s.watch.Tell() // a reference may mean another secret now
	return nil
}

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func (s *settings) source(name string, described config.Provider) (*source, error) {
	raw := s.local
	if name != secret.DefaultProvider {
		var err error
		m := s.memory(name)
		m.unwrapped = s.unwrappedFor(name, described)
		if raw, err = build(name, described, s.fp, m); err != nil {
			return nil, err
		}
	}
	return &source{described: described, raw: raw, asked: &watch.Source{
		Provider: raw, Name: name, Log: s.log,
		Attempts: described.Retry.Attempts, Backoff: described.Retry.Backoff, Budget: described.CallsPerMinute,
	}}, nil
}

// memory is what the provider of that name remembers.
func (s *settings) memory(name string) memory {
	m := memory{provider: name, sealed: s.sealed}
	m.notes, _ = s.sealed.(notes)
	if s.leases != "" {
		m.file = filepath.Join(s.leases, name+".json")
	}
	return m
}

// unwrappedFor is what the provider before of that name, at the same server, had in a
// wrapping token.
func (s *settings) unwrappedFor(name string, described config.Provider) *vault.Unwrapped {
	c, ok := described.Config.(*config.Vault)
	if !ok {
		return nil
	}
	of := strings.Join([]string{name, c.Address, c.Namespace}, " ")
	if s.unwrapped[of] == nil {
		s.unwrapped[of] = &vault.Unwrapped{}
	}
	return s.unwrapped[of]
}

// bare is the local vault that no configuration names.
func (s *settings) bare(old *source) *source {
	if old != nil && old.described.Type == "" {
		return old
	}
	return &source{raw: s.local, asked: &watch.Source{Provider: s.local, Name: secret.DefaultProvider, Attempts: 1, Log: s.log}}
}

// look starts what looks after the providers, once there is somebody to wait for it.
func (s *settings) look() {
	if s.upkeep == nil {
		return
	}
	for name, src := range s.sources {
		if src.stop != nil {
			continue
		}
		ctx, cancel := context.WithCancel(s.upkeep)
		src.stop = cancel
		if k, ok := src.raw.(provider.Keeper); ok {
			s.finished.Go(func() { k.Keep(ctx) })
		}
		if w, ok := src.raw.(provider.Watcher); ok {
			s.finished.Go(func() {
				follow(ctx, w, func() { s.watch.Push(name) }, func() {
					s.log.Warn("provider tells of changes all the time", "provider", name, "looked_at_every", lastTellPause.String())
				})
			})
		}
	}
}

// run follows the file and the signal, and asks the providers, until ctx ends.
func (s *settings) run(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	s.runWith(ctx, hup)
}

func (s *settings) runWith(ctx context.Context, hup <-chan os.Signal) {
	s.mu.Lock()
	s.upkeep = ctx
	s.look()
	s.mu.Unlock()
	s.finished.Go(func() { s.watch.Run(ctx) })
	defer s.finished.Wait()
	for ctx.Err() == nil {
		s.followFile(ctx, hup)
	}
}

// watchDir watches the directory of a file: most editors put another file in the
// place of the old one. Without a file there is nothing to see.
func (s *settings) watchDir(file string) (events <-chan fsnotify.Event, errs <-chan error, stop func()) {
	if file == "" {
		return nil, nil, func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(filepath.Dir(file)); err == nil {
			return w.Events, w.Errors, func() { _ = w.Close() }
		}
		_ = w.Close()
	}
	s.log.Warn("configuration is not watched, only SIGHUP reads it again", "file", file, "error", err)
	return nil, nil, func() {}
}

// followFile returns when another file is to be followed.
func (s *settings) followFile(ctx context.Context, hup <-chan os.Signal) {
	file := s.file()
	events, errs, stop := s.watchDir(file)
	defer stop()
	if file != "" {
		s.reload(false) // what happened before the watch stood
	}
	var quiet <-chan time.Time
	for s.file() == file {
		select {
		case <-events:
			quiet = time.After(s.settle)
		case err := <-errs:
			s.log.Warn("configuration watch", "file", file, "error", err)
			quiet = time.After(s.settle)
		case <-quiet:
			quiet = nil
			s.reload(false)
		case <-hup:
			s.reload(true)
		case <-ctx.Done():
			return
		}
	}
}

func (s *settings) file() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.File
}

// reload reads the configuration again. One that is bad is reported once, and the
// last good one stays. asked says that a person wants it, changed or not: the files
// that hold the credentials may be others.
func (s *settings) reload(asked bool) {
	path, err := config.Find(s.explicit)
	if errors.Is(err, config.ErrNone) {
		s.bad("configuration not read, the last good one stays", err, asked, [sha256.Size]byte{})
		return
	}
	sum := config.Sum(path)
	s.mu.Lock()
	same := sum == s.seen
	s.mu.Unlock()
	if same && !asked {
		return
	}
	var c *config.Config
	if err == nil {
		c, err = config.Load(path)
	}
	before := s.names()
	if err == nil {
		err = s.apply(c)
	}
	if err != nil {
		s.bad("configuration not taken, the last good one stays", err, asked, sum)
		return
	}
	s.mu.Lock()
	s.seen, s.wrong = sum, nil
	s.mu.Unlock()
	s.keepGood(c, time.Now())
	if asked { // a person says that something may be another
		s.watch.InvalidateAll()
	}
	s.log.Info("configuration taken", "file", path, "providers", s.names(), "providers_before", before)
	s.warn(c)
}

// warn tells what does not keep a file from being used.
func (s *settings) warn(c *config.Config) {
	for _, w := range c.Warnings {
		s.log.Warn("configuration may not do what it says", "warning", w.String())
	}
}

func (s *settings) bad(msg string, err error, asked bool, sum [sha256.Size]byte) {
	s.mu.Lock()
	known := s.seen == sum
	s.seen, s.wrong = sum, problemTexts(err)
	s.mu.Unlock()
	if known && !asked {
		return
	}
	for _, text := range problemTexts(err) {
		s.log.Error(msg, "error", text)
	}
}

// then calls use with the configuration that holds, and with each that takes its place.
func (s *settings) then(use func(*config.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.use = use
	use(s.config)
}

// rejected says what is wrong with the file when it is not what holds.
func (s *settings) rejected() (file string, problems []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.File, s.wrong
}

func (s *settings) names() []string { return s.resolver.Providers().Names() }

// fastLane says whether the fast lane is wanted.
func (s *settings) fastLane() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Agent.FastLane != "off"
}

// window is when rotations may begin.
func (s *settings) window() window.Window {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens
}

func (s *settings) mode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Mode
}
