package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Source is a provider with a breaker and a budget. As a provider.Provider it is for
// starts: it always asks the store.
type Source struct {
	// Set before it is used, and never after.
	Provider provider.Provider
	Name     string
	Attempts int // calls in all, of one that may succeed later
	Backoff  time.Duration
	Budget   int // calls per minute; zero: no bound
	Log      *slog.Logger

	mu      sync.Mutex
	longest time.Duration // between two probes; zero: lastPause
	breaker breaker
	probe   chan struct{} // closed when the probe that is on its way has ended; nil: there is none
	budget  budget
	calls   Calls
	at      time.Time // of the last call that says something about the store
	err     error     // what it ended with
	good    time.Time // when the store answered last
}

// Calls are the calls made to a store, those of retries included.
type Calls struct {
	Version  uint64
	Value    uint64
	Answers  map[string]uint64 // by how they ended: ok, not_found, error
	Failures map[string]uint64 // by what went wrong; see [failureOf]
}

// openPatience bounds a start's call to a store whose breaker is open: what comes
// after it, such as the last good value, must still be in time.
const openPatience = 3 * time.Second

// Version implements [provider.Provider].
func (s *Source) Version(ctx context.Context, path string) (v secret.Version, err error) {
	err = s.must(ctx, path, func(ctx context.Context, p provider.Provider) error { v, err = p.Version(ctx, path); return err })
	return v, err
}

// Get implements [provider.Provider].
func (s *Source) Get(ctx context.Context, path string, want secret.Version) (value secret.Value, v secret.Version, err error) {
	err = s.must(ctx, path, func(ctx context.Context, p provider.Provider) error {
		value, v, err = p.Get(ctx, path, want)
		return err
	})
	return value, v, err
}

// must makes a call that is not to be refused: while the breaker is open, once.
func (s *Source) must(ctx context.Context, path string, call func(context.Context, provider.Provider) error) error {
	s.mu.Lock()
	open := s.breaker.open()
	s.mu.Unlock()
	p := s.patient(false)
	if open {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openPatience)
		defer cancel()
		p = &meter{source: s}
	}
	err := provider.Explain(s.Name, path, call(ctx, p))
	s.note(err)
	return err
}

// patient returns the provider with its retries. paid says that the budget was
// charged for the first call already.
func (s *Source) patient(paid bool) provider.Provider {
	return &provider.Retry{Provider: &meter{s, paid}, Name: s.Name, Attempts: s.Attempts, Backoff: s.Backoff}
}

// poll asks for a version. It is refused with an [*OpenError] while the breaker is
// open, but for the probe when its time has come; who comes while that is on its way
// waits for what it finds.
func (s *Source) poll(ctx context.Context, path string, paid bool) (secret.Version, error) {
	for {
		s.mu.Lock()
		running, open := s.probe, s.breaker.open()
		switch {
		case !open:
			s.mu.Unlock()
			return s.ask(ctx, s.patient(paid), path)
		case running != nil:
			s.mu.Unlock()
			select {
			case <-running:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		case time.Now().Before(s.breaker.next):
			err := &OpenError{Since: s.breaker.since, Next: s.breaker.next, Err: s.breaker.cause}
			s.mu.Unlock()
			return "", err
		default:
			s.probe = make(chan struct{})
			s.mu.Unlock()
			defer s.probed()
			return s.ask(ctx, &meter{s, paid}, path)
		}
	}
}

func (s *Source) probed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.probe)
	s.probe = nil
}

func (s *Source) ask(ctx context.Context, p provider.Provider, path string) (secret.Version, error) {
	v, err := p.Version(ctx, path)
	err = provider.Explain(s.Name, path, err)
	s.note(err)
	return v, err
}

// note takes how a call ended, with its retries.
func (s *Source) note(err error) {
	now := time.Now()
	what := judge(err)
	if what == nothing {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.breaker.since
	longest := s.longest
	if longest == 0 {
		longest = lastPause
	}
	opened, closed := s.breaker.note(now, err, longest)
	s.at, s.err = now, nil
	switch {
	case what != answered:
		s.err = err
	case errors.Is(err, provider.ErrDenied), errors.Is(err, provider.ErrTooLarge):
		s.err, s.good = err, now
	default:
		s.good = now
	}
	switch {
	case opened:
		s.Log.Warn("provider is not asked for a while: circuit open", "provider", s.Name, "error", err, "next_try", s.breaker.next)
	case closed:
		s.Log.Info("provider answers again: circuit closed", "provider", s.Name, "open_since", since, "open_for", now.Sub(since).Round(time.Second).String())
	}
}

// rest forgets how the last calls ended: nobody needs the store, so no probe would find
// out that it is back.
func (s *Source) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker, s.err = breaker{}, nil
}

// hurry makes the next probe due: something says that the store may be back.
func (s *Source) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaker.open() {
		s.breaker.next = time.Now()
	}
}

// bound sets the longest time between two probes.
func (s *Source) bound(longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = longest
}

// mayPoll charges the budget for a poll that begins now, or tells when one may. alone
// says that no other is on its way.
func (s *Source) mayPoll(now time.Time, alone bool) (ok bool, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.perMinute = s.Budget
	if s.breaker.open() {
		if now.Before(s.breaker.next) {
			return false, s.breaker.next
		}
		if !alone {
			return false, time.Time{} // its end tells
		}
	}
	if wait := s.budget.wait(now); wait > 0 {
		return false, now.Add(wait)
	}
	s.budget.charge(now)
	return true, time.Time{}
}

// meter counts the calls, charges the budget for them, and is where every version that
// a store gives comes by.
type meter struct {
	source *Source
	paid   bool // the next call is charged for
}

func (m *meter) Version(ctx context.Context, path string) (secret.Version, error) {
	m.begin(func(c *Calls) { c.Version++ })
	v, err := m.source.Provider.Version(ctx, path)
	if err == nil {
		err = provider.CheckVersion(v)
	}
	m.source.ended(err)
	if err != nil {
		return "", err
	}
	return v, nil
}

func (m *meter) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	m.begin(func(c *Calls) { c.Value++ })
	value, v, err := m.source.Provider.Get(ctx, path, want)
	if err == nil {
		err = provider.CheckVersion(v)
	}
	m.source.ended(err)
	if err != nil {
		return secret.Value{}, "", err
	}
	return value, v, nil
}

func (m *meter) begin(count func(*Calls)) {
	s := m.source
	s.mu.Lock()
	defer s.mu.Unlock()
	count(&s.calls)
	if s.budget.perMinute = s.Budget; !m.paid {
		s.budget.charge(time.Now())
	}
	m.paid = false
}

func (s *Source) ended(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls.Answers == nil {
		s.calls.Answers, s.calls.Failures = map[string]uint64{}, map[string]uint64{}
	}
	switch {
	case err == nil:
		s.calls.Answers["ok"]++
	case errors.Is(err, provider.ErrNotFound), errors.Is(err, provider.ErrNoVersion):
		s.calls.Answers["not_found"]++
	default:
		s.calls.Answers["error"]++
		s.calls.Failures[failureOf(err)]++
	}
}

// failureOf is the class of an error, in one word.
func failureOf(err error) string {
	var throttled *provider.Throttled
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &throttled):
		return "throttled"
	case errors.Is(err, provider.ErrCredential):
		return "credential"
	case errors.Is(err, provider.ErrDenied):
		return "denied"
	case errors.Is(err, provider.ErrTooLarge):
		return "too_large"
	case errors.Is(err, provider.ErrMalformed):
		return "malformed"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, provider.ErrPermanent):
		return "permanent"
	}
	return "unavailable"
}

// SourceStatus is what is known of a provider.
type SourceStatus struct {
	Name    string
	Asked   time.Time // zero: never
	Err     error     // what the last call ended with, when it did not end well
	Good    time.Time // the store answered last
	Open    bool      // the breaker
	Since   time.Time // open since
	Next    time.Time // the next probe
	Failed  int       // calls in a row
	Budget  int       // calls per minute
	Left    int       // of it, now; below zero: owed
	Calls   Calls
	Secrets int // in use
	// Shortest and Longest are the intervals in force; zero without secrets.
	Shortest, Longest time.Duration
	// Late is how long the poll that waits longest waits already.
	Late time.Duration
}

func (s *Source) status(now time.Time) SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStatus{
		Name: s.Name, Asked: s.at, Err: s.err, Good: s.good, Open: s.breaker.open(), Since: s.breaker.since, Next: s.breaker.next,
		Failed: s.breaker.failures, Budget: s.Budget, Calls: s.calls,
	}
	st.Calls.Answers, st.Calls.Failures = maps.Clone(s.calls.Answers), maps.Clone(s.calls.Failures)
	if s.budget.perMinute > 0 {
		s.budget.fill(now)
		st.Left = int(s.budget.left)
	}
	return st
}
