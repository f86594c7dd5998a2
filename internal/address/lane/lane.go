package lane

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/docker-secret-operator/dso/internal/address/flow"
)

const (
	confirmEvery = lapse / 3
	// passEvery is how often the engine's firewall is looked at when the kernel does
	// not tell of changes there, as it does not for the older kind of iptables.
	passEvery = 30 * time.Second
)

// Lane keeps the table in line with what it was told. Its methods may be called
// concurrently.
type Lane struct {
	log    *slog.Logger
	root   string // of the tree with the host's programs; empty: this one
	wanted func() bool

	sweeping sync.Mutex // taken before mu

	mu       sync.Mutex
	base     context.Context // of what goes on beside the calls
	table    *table          // nil: there is no lane now
	services map[string]*lived
	expected map[string]*lived // what services may have next
	families families
	inForce  rules
	unswept  bool           // flows that went elsewhere before may still be there
	late     map[int][]late // by the process that they are of
	trouble  string         // why there is none
}

// lived is a service with the watches on its processes.
type lived struct {
	Service
	cancels []func()
}

// New returns a lane that takes nothing until it runs, and while it is not wanted. It calls
// the programs of the host in the tree below root, empty: this one.
func New(log *slog.Logger, root string, wanted func() bool) *Lane {
	return &Lane{log: log, root: root, wanted: wanted, base: context.Background(), services: map[string]*lived{}, expected: map[string]*lived{}, late: map[int][]late{}, trouble: "not started"}
}

// Run keeps the lane until ctx ends; then everything takes the fronts again and
// nothing of the lane is left.
func (l *Lane) Run(ctx context.Context) {
	defer func() {
		l.down("the agent has ended")
		if err := Forget(context.WithoutCancel(ctx), l.root); err != nil {
			l.log.Warn("rule of the fast lane not removed from the engine's firewall", "error", err)
		}
	}()
	l.mu.Lock()
	l.base = ctx
	l.mu.Unlock()
	changed := firewallChanges(ctx, l.log)
	confirm, check := time.NewTicker(confirmEvery), time.NewTicker(passEvery)
	defer confirm.Stop()
	defer check.Stop()
	was := l.wanted()
	l.up(ctx)
	for {
		select {
		case <-confirm.C:
			if wanted := l.wanted(); wanted == was {
				l.confirm()
				continue
			}
			was = !was
			l.up(ctx)
		case <-changed:
			l.up(ctx)
		case <-check.C:
			l.up(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// up makes sure that the table is there and that the engine's firewall lets it
// through, or that there is no table.
func (l *Lane) up(ctx context.Context) {
	if !l.wanted() {
		l.down("agent.fast_lane is off")
		return
	}
	err := pass(ctx, l.root)
	var nat families
	if err == nil {
		nat.v4, nat.v6, err = natFamilies()
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.down(err.Error())
		return
	}
	l.change(func() {
		l.families = nat
		if l.table == nil {
			l.inForce = rules{}
			if l.table, err = openTable(); err != nil {
				l.drop(err.Error())
			}
		}
	})
}

// change does something, puts what is wanted then in force, and sweeps.
func (l *Lane) change(do func()) {
	l.mu.Lock()
	do()
	err := l.write()
	l.mu.Unlock()
	if err != nil {
		l.log.Warn("fast lane not written", "error", err)
	}
	l.Sweep()
}

func (l *Lane) down(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(why)
}

// drop takes the table away. It is said once for each reason.
func (l *Lane) drop(why string) {
	if l.table != nil {
		if err := l.table.close(); err != nil {
			l.log.Debug("fast lane not closed", "error", err)
		}
		l.table = nil
	}
	if l.trouble != why {
		l.trouble = why
		l.log.Info("no fast lane: what comes from outside takes the fronts", "reason", why)
	}
}

func (l *Lane) confirm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table != nil && len(l.inForce.routes) > 0 {
		if err := l.table.confirm(); err != nil {
			l.drop(err.Error())
		}
	}
}

// Knows reports whether the lane does something for the front of that key.
func (l *Lane) Knows(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.services[key] != nil
}

// Expect says what the front of that key may soon have as a target, so that [Lane.Target] knows
// it. It is forgotten with the next [Lane.Set].
func (l *Lane) Expect(key string, t Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetExpected(key)
	e := &lived{Service: Service{Targets: []Target{t}}}
	cancel, err := onExit(t.Pid, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.expected[key] == e {
			delete(l.expected, key)
		}
	})
	if err != nil {
		return err
	}
	e.cancels = append(e.cancels, cancel)
	l.expected[key] = e
	return nil
}

func (l *Lane) forgetExpected(key string) {
	if e := l.expected[key]; e != nil {
		e.cancel()
		delete(l.expected, key)
	}
}

// Target returns a target of the front of that key, or one that it may soon have, whose
// process has not ended since it was told.
func (l *Lane) Target(key, name string) (Target, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range []*lived{l.services[key], l.expected[key]} {
		if s == nil {
			continue
		}
		if i := slices.IndexFunc(s.Targets, func(t Target) bool { return t.Name == name }); i >= 0 {
			return s.Targets[i], true
		}
	}
	return Target{}, false
}

// Set says what the lane is to do for the front of that key. Without a target it
// does nothing for it. The flows that went elsewhere before are forgotten with [Lane.Sweep].
func (l *Lane) Set(key string, s Service) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.forgetExpected(key)
	old := l.services[key]
	if old != nil && old.equal(s) {
		return nil
	}
	now := &lived{Service: s}
	if err := l.watch(key, now); err != nil {
		now.cancel()
		l.replace(key, nil)
		return errors.Join(err, l.write())
	}
	l.replace(key, now)
	return l.write()
}

func (l *Lane) replace(key string, s *lived) {
	old := l.services[key]
	if old == nil && s != nil {
		old = &lived{Service: Service{Ports: s.Ports, Targets: s.Leaving}} // as the agent before left it
	}
	delete(l.services, key)
	if s != nil && len(s.Targets) > 0 {
		l.services[key] = s
		for _, t := range s.Targets {
			delete(l.late, t.Pid)
		}
	}
	if old == nil {
		return
	}
	old.cancel()
	if s != nil {
		for pid, what := range latecomers(old.Service, s.Service) {
			l.owes(pid, what)
		}
	}
}

// owes remembers what a process that new connections do not go to any more may still
// answer, for as long as it lives.
func (l *Lane) owes(pid int, what []late) {
	_, err := onExit(pid, func() { l.change(func() { delete(l.late, pid) }) })
	if err == nil {
		l.late[pid] = what
	}
}

// watch takes a target away when its process ends, and tells of the end of the front.
func (l *Lane) watch(key string, s *lived) error {
	if len(s.Targets) == 0 {
		return nil
	}
	for _, t := range s.Targets {
		cancel, err := onExit(t.Pid, func() { l.ended(key, s, t.Pid) })
		if err != nil {
			return err
		}
		s.cancels = append(s.cancels, cancel)
	}
	base := l.base
	cancel, err := onExit(s.Front, func() { s.Ended(base) })
	if err != nil { // it has ended already
		go s.Ended(base)
		return nil
	}
	s.cancels = append(s.cancels, cancel)
	return nil
}

func (s *lived) cancel() {
	for _, c := range s.cancels {
		c()
	}
}

func (l *Lane) ended(key string, s *lived, pid int) {
	l.change(func() {
		if l.services[key] != s {
			return
		}
		s.Targets = slices.DeleteFunc(slices.Clone(s.Targets), func(t Target) bool { return t.Pid == pid })
		if len(s.Targets) == 0 {
			l.replace(key, nil)
		}
	})
}

// write puts what is wanted in force. When it cannot, there is no lane.
func (l *Lane) write() error {
	if l.table == nil {
		return nil
	}
	wanted := map[string]Service{}
	for key, s := range l.services {
		wanted[key] = s.Service
	}
	now := rules{routes: routes(wanted, l.families)}
	for _, pid := range slices.Sorted(maps.Keys(l.late)) {
		for _, what := range l.late[pid] {
			if l.families.take(what.addr) {
				now.late = append(now.late, what)
			}
		}
	}
	if !now.equal(l.inForce) {
		if err := l.table.write(now); err != nil {
			l.drop(err.Error())
			return err
		}
		l.inForce, l.unswept = now, true
		l.log.Debug("fast lane written", "services", slices.Sorted(maps.Keys(wanted)), "routes", len(now.routes))
	}
	if l.trouble != "" {
		l.trouble = ""
		l.log.Info("fast lane in force", "table", Table)
	}
	return nil
}

// sweepEvery is the pause between two sweeps.
const sweepEvery = 50 * time.Millisecond

// Sweep forgets the flows that went elsewhere before a change, until there is none: what was on
// its way through the kernel may have made another one. It goes through all connections of the
// host, which takes many times as long as the change itself.
func (l *Lane) Sweep() {
	l.sweeping.Lock()
	defer l.sweeping.Unlock()
	l.mu.Lock()
	sweep := l.unswept && l.table != nil && len(l.inForce.routes) > 0
	l.unswept = false
	l.mu.Unlock()
	if !sweep {
		return
	}
	again, err := l.forget()
	if err != nil {
		l.log.Warn("flows that went elsewhere are not forgotten", "error", err)
	}
	if again {
		time.AfterFunc(sweepEvery, func() {
			l.mu.Lock()
			l.unswept = true
			l.mu.Unlock()
			l.Sweep()
		})
	}
}

func (l *Lane) forget() (any bool, err error) {
	t, err := flow.Open(nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return t.Forget(true, l.astray)
}

// astray says of a flow what holds now, and not when the sweep began.
func (l *Lane) astray(f conntrack.Flow) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.inForce.routes, func(r route) bool { return r.astray(f) })
}
