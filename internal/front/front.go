package front

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
)

// Config is what a front is told at its start.
type Config struct {
	Dir      string   // where the agent puts the map; read only
	Fallback []string // names to use when no map, or nothing in it, is found
	Resolver string   // host:port of the DNS server; empty: Docker's
	Log      *slog.Logger
}

// kernel is where a state takes effect.
type kernel interface {
	Prepare() error
	Apply(generation uint64, targets []frontmap.Target) error
	Sweep(targets []frontmap.Target, halfOpen bool) error
}

// state is what the kernel forwards to. Generation 0 stands for the fallback.
type state struct {
	generation uint64
	targets    []frontmap.Target // sorted by address
}

func (s state) equal(o state) bool {
	return s.generation == o.generation && slices.Equal(s.targets, o.targets)
}

// Front keeps the kernel in line with the map. Its methods are not safe for
// concurrent use.
type Front struct {
	cfg    Config
	kernel kernel
	names  *names
	now    func() time.Time

	changed  <-chan struct{}
	order    *frontmap.Map // the last good one; nil: there is none
	next     []string      // the targets that are announced
	inForce  *state        // nil: nothing was applied yet
	since    time.Time     // when inForce was applied
	swept    bool          // flows of addresses that left were forgotten
	settled  bool          // and the handshakes that nobody answered
	troubles map[string]string
}

// New returns a front for the network namespace of this process. It refuses
// fallback names that cannot be container names.
func New(cfg Config) (*Front, error) {
	for _, name := range cfg.Fallback {
		if err := frontmap.ValidTarget(name); err != nil {
			return nil, fmt.Errorf("fallback: %w", err)
		}
	}
	if cfg.Resolver == "" {
		cfg.Resolver = dockerDNS
	}
	return assemble(cfg, newNetfilter(), dns(cfg.Resolver)), nil
}

func assemble(cfg Config, k kernel, find lookup) *Front {
	return &Front{cfg: cfg, kernel: k, names: newNames(find), now: time.Now, troubles: map[string]string{}}
}

// Run works until ctx ends and then leaves the kernel as it is.
func (f *Front) Run(ctx context.Context) error {
	f.trouble("prepare", f.kernel.Prepare())
	changed, stop, err := watch(f.cfg.Dir)
	f.trouble("watch", err)
	if err == nil {
		f.changed = changed
		defer func() { _ = stop() }()
	}
	for {
		timer := time.NewTimer(f.cycle(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-f.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// cycle brings the kernel up to date once and returns when to do it again.
func (f *Front) cycle(ctx context.Context) time.Duration {
	f.load()
	if want, ok := f.foreseen(); ok {
		f.put(want)
	}
	want, ok, interrupted := f.decide(ctx)
	switch {
	case ctx.Err() != nil:
		return 0
	case interrupted:
		return 0
	case ok:
		f.put(want)
	}
	return f.names.wait()
}

// load reads the map. One that cannot be read leaves the last good one in force.
func (f *Front) load() {
	m, err := frontmap.Load(f.cfg.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.order, err = nil, nil
	case err == nil:
		f.order = &m
	}
	f.trouble("load", err)
	f.next = nil
	if next, err := frontmap.LoadNext(f.cfg.Dir); err == nil {
		f.next = next.Targets
	}
}

// foreseen is what a new order asks for, when all its targets were found a moment ago, because
// it was announced. It need not wait for a name server; the cycle asks that once more.
func (f *Front) foreseen() (want state, ok bool) {
	if f.order == nil || len(f.order.Targets) == 0 || f.inForce == nil || f.inForce.generation >= f.order.Generation {
		return state{}, false
	}
	for _, name := range f.order.Targets {
		if !f.names.fresh(name) {
			return state{}, false
		}
	}
	return state{f.order.Generation, f.locate(f.order.Targets)}, true
}

// decide says what should be in force. It is not ok while a name may still be
// found in time and what is in force is still true.
func (f *Front) decide(ctx context.Context) (want state, ok, interrupted bool) {
	var held, mapped []string
	if f.inForce != nil {
		for _, t := range f.inForce.targets {
			held = append(held, t.Name)
		}
	}
	if f.order != nil {
		if mapped = f.order.Targets; len(mapped) == 0 {
			return state{generation: f.order.Generation}, true, false
		}
	}
	f.names.keep(mapped, held, f.cfg.Fallback, f.next)
	if len(mapped) > 0 {
		if f.names.refresh(ctx, union(slices.Concat(mapped, f.next), held), f.changed) {
			return state{}, false, true
		}
		targets := f.locate(mapped)
		if f.worthWaiting(mapped, targets) {
			return state{}, false, false
		}
		if len(targets) > 0 {
			return state{f.order.Generation, targets}, true, false
		}
	}
	if f.names.refresh(ctx, union(f.cfg.Fallback, held), f.changed) {
		return state{}, false, true
	}
	targets := f.locate(f.cfg.Fallback)
	return state{targets: targets}, !f.worthWaiting(f.cfg.Fallback, targets), false
}

// locate returns where the names are, each address once.
func (f *Front) locate(wanted []string) []frontmap.Target {
	var targets []frontmap.Target
	for _, name := range wanted {
		for _, a := range f.names.addrs(name) {
			targets = append(targets, frontmap.Target{Name: name, Addr: a})
		}
	}
	slices.SortStableFunc(targets, func(a, b frontmap.Target) int { return a.Addr.Compare(b.Addr) })
	return slices.CompactFunc(targets, func(a, b frontmap.Target) bool { return a.Addr == b.Addr })
}

// worthWaiting says that one of the wanted names may still show up and that the
// wait costs nothing: all that is in force is still where it was or, with nothing
// in force, nothing was found either.
func (f *Front) worthWaiting(wanted []string, found []frontmap.Target) bool {
	if !slices.ContainsFunc(wanted, f.names.pending) {
		return false
	}
	if f.inForce == nil || len(f.inForce.targets) == 0 {
		return len(found) == 0
	}
	for _, t := range f.inForce.targets {
		if !slices.Contains(f.names.addrs(t.Name), t.Addr) {
			return false
		}
	}
	return true
}

// put applies what is not in force yet, then forgets what would stick to
// addresses that left. Handshakes get the time of one cycle to be answered.
func (f *Front) put(want state) {
	if f.inForce == nil || !f.inForce.equal(want) {
		begin := f.now()
		err := f.kernel.Apply(want.generation, want.targets)
		f.trouble("apply", err)
		if err != nil {
			return
		}
		f.inForce, f.since, f.swept, f.settled = &want, f.now(), false, false
		f.cfg.Log.Info("applied", "generation", want.generation, "targets", describe(want.targets),
			"took_us", f.since.Sub(begin).Microseconds())
	}
	halfOpen := f.now().Sub(f.since) >= lookupEvery
	if f.settled || f.swept && !halfOpen {
		return
	}
	err := f.kernel.Sweep(want.targets, halfOpen)
	f.trouble("sweep", err)
	if err == nil {
		f.swept, f.settled = true, halfOpen
	}
}

// trouble logs an error once for as long as it stays the same.
func (f *Front) trouble(op string, err error) {
	if err == nil {
		delete(f.troubles, op)
		return
	}
	if f.troubles[op] != err.Error() {
		f.troubles[op] = err.Error()
		f.cfg.Log.Error(op, "error", err.Error())
	}
}

func describe(targets []frontmap.Target) []string {
	list := []string{}
	for _, t := range targets {
		list = append(list, t.Name+"@"+t.Addr.String())
	}
	return list
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
