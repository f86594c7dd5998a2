package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Names says which secrets references mean.
type Names interface {
	IDs(project string, refs []secret.Ref) []secret.ID
}

// callDeadline bounds one call for a version, with its retries.
const callDeadline = 30 * time.Second

// Watch knows the current versions of the secrets in use. It is safe for concurrent
// use.
type Watch struct {
	Names
	changed chan struct{}
	wake    chan struct{}

	mu      sync.Mutex
	sources map[string]*Source
	table   *table
	again   time.Time // when Run looks again by itself; zero: it does not
}

// New returns a watch over no provider yet. Nothing is asked by itself before
// [Watch.Run].
func New(names Names) *Watch {
	random := func(d time.Duration) time.Duration { return rand.N(d + 1) }
	return &Watch{
		Names: names, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		sources: map[string]*Source{}, table: newTable(time.Minute, random),
	}
}

// Changed tells that some secret has a new version, or can be read again: what uses
// it is to be compared.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Tell makes what uses secrets be compared, whatever is known of them.
func (w *Watch) Tell() { signal(w.changed) }

// Over replaces the providers, and sets the longest time between two polls of a
// secret. What is known of a provider that is replaced is out of date.
func (w *Watch) Over(sources map[string]*Source, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, s := range sources {
		s.bound(longest)
		if st := w.table.stores[name]; st != nil && w.sources[name] != s {
			w.outdate(st)
		}
	}
	w.sources = sources
	w.table.bound(longest, time.Now())
	signal(w.wake)
}

func (w *Watch) outdate(s *store) {
	for _, e := range s.entries {
		w.table.invalidate(e)
	}
}

// Use says which secrets are in use; the others are no longer asked for.
func (w *Watch) Use(ids []secret.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.table.use(ids, time.Now()) {
		if src := w.sources[name]; src != nil {
			src.rest()
		}
	}
	signal(w.wake)
}

// Push says that secrets of a provider may have changed: the one that is named, or
// any. It reports how many in use that is.
func (w *Watch) Push(name string, paths ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.table.stores[name]
	if s == nil {
		return 0
	}
	n := 0
	for path, e := range s.entries {
		if len(paths) == 0 || slices.Contains(paths, path) {
			w.table.invalidate(e)
			n++
		}
	}
	if src := w.sources[name]; src != nil && n > 0 {
		src.hurry()
	}
	signal(w.wake)
	return n
}

// Invalidate makes what is known of those of the secrets that are in use out of date:
// somebody wants to know now, and to have what there is now.
func (w *Watch) Invalidate(ids ...secret.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if src := w.sources[id.Provider]; src != nil {
			src.hurry()
		}
		if e := w.table.known(id); e != nil {
			w.table.urge(e)
		}
	}
	signal(w.wake)
}

// InvalidateAll makes everything that is known out of date.
func (w *Watch) InvalidateAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.table.stores {
		w.outdate(s)
	}
	signal(w.wake)
}

// Desired returns the current versions of the secrets that the references of a
// container mean, as they are known. What is not known is asked for.
func (w *Watch) Desired(ctx context.Context, project string, refs []secret.Ref) (secret.Versions, error) {
	ids := w.IDs(project, refs)
	for _, id := range ids {
		if err := w.ask(ctx, id, 0); err != nil {
			return nil, err
		}
	}
	return w.versions(ids)
}

// rounds bounds how often versions are asked for again because one of them changed
// meanwhile.
const rounds = 5

// Confirm returns the current versions from calls that began after a moment, all of
// them current at one and the same moment. A change that goes on is waited for: half of
// it may be what nobody ever wanted to be used.
func (w *Watch) Confirm(ctx context.Context, project string, refs []secret.Ref, after time.Time) (secret.Versions, error) {
	ids := w.IDs(project, refs)
	needs := w.since(ids, after)
	for range rounds {
		if err := w.settled(ctx, ids); err != nil {
			return nil, err
		}
		if w.together(ids, needs) {
			return w.versions(ids)
		}
		for _, id := range ids {
			if err := w.ask(ctx, id, needs[id]); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("the secrets changed %d times while they were compared", rounds)
}

// settled waits until none of the secrets changes any more, or one has for long enough.
func (w *Watch) settled(ctx context.Context, ids []secret.ID) error {
	for {
		restless, until, need := w.restless(ids)
		if len(restless) == 0 {
			return nil
		}
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, id := range restless {
			if err := w.ask(ctx, id, need); err != nil {
				return err
			}
		}
	}
}

// restless returns the secrets that may be changing, when the last of them may be found
// to stand still, and the tick after which the calls must have begun that find it.
func (w *Watch) restless(ids []secret.ID) (out []secret.ID, until time.Time, need uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, id := range ids {
		at, changes := w.table.entry(id, now).changes(now)
		if !changes {
			continue
		}
		out = append(out, id)
		if at.After(until) {
			until = at
		}
	}
	return out, until, w.table.tick()
}

// since returns for each secret the tick that the call must have begun at: from now
// on, if what is known is not from after the moment.
func (w *Watch) since(ids []secret.ID, after time.Time) map[secret.ID]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	needs := map[secret.ID]uint64{}
	for _, id := range ids {
		if e := w.table.entry(id, time.Now()); !e.known || !e.at.After(after) {
			needs[id] = w.table.tick()
		}
	}
	return needs
}

// together reports whether there was a moment at which all known versions were
// current: each is of a call that began after the others' were heard for the first
// time. It raises the needs to what is missing for that.
func (w *Watch) together(ids []secret.ID, needs map[secret.ID]uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := true
	for _, id := range ids {
		for _, other := range ids {
			if other != id {
				needs[id] = max(needs[id], w.table.entry(other, time.Now()).heard)
			}
		}
		all = all && w.table.entry(id, time.Now()).fresh(needs[id])
	}
	return all
}

// ask makes sure that a call about the secret has ended that began at need or later.
// Whoever comes while one is on its way waits for that.
func (w *Watch) ask(ctx context.Context, id secret.ID, need uint64) error {
	w.mu.Lock()
	need = max(need, w.table.entry(id, time.Now()).asked)
	for {
		e := w.table.entry(id, time.Now())
		running := e.flight
		if running == nil {
			break
		}
		w.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
	e := w.table.entry(id, time.Now())
	if e.known && e.begun >= need {
		w.mu.Unlock()
		return nil
	}
	f := w.table.begin(e, time.Now())
	w.mu.Unlock()
	w.call(ctx, f, false)
	return ctx.Err()
}

// call carries a flight to its end.
func (w *Watch) call(ctx context.Context, f flight, polled bool) {
	asking, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	id := f.entry.id
	v, err := w.version(asking, id, polled)
	w.mu.Lock()
	defer w.mu.Unlock()
	if polled {
		w.table.stores[id.Provider].running--
	}
	if ctx.Err() != nil { // who asked went away: that says nothing
		w.table.dropped(f)
	} else {
		w.table.answer(f, time.Now(), v, err)
	}
	if w.table.soonerThan(w.again, id.Provider) {
		signal(w.wake)
	}
}

func (w *Watch) version(ctx context.Context, id secret.ID, polled bool) (secret.Version, error) {
	w.mu.Lock()
	s := w.sources[id.Provider]
	w.mu.Unlock()
	if s == nil {
		return "", fmt.Errorf("provider %q is not configured: %w", id.Provider, provider.ErrPermanent)
	}
	return s.poll(ctx, id.Path, polled)
}

// versions returns what is known.
func (w *Watch) versions(ids []secret.ID) (secret.Versions, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	vs := secret.Versions{}
	for _, id := range ids {
		e := w.table.entry(id, time.Now())
		if e.err != nil {
			return nil, e.err
		}
		vs[id] = e.version
	}
	return vs, nil
}

// Run polls until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		polls, again := w.due(time.Now())
		for _, f := range polls {
			wg.Go(func() { w.call(ctx, f, true) })
		}
		if again.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(again))
		}
	}
}

// due takes out the polls that are to begin now, tells of news when it is time, and
// returns when to look again.
func (w *Watch) due(now time.Time) (polls []flight, again time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	yes, again := w.table.tell(now)
	if yes {
		signal(w.changed)
	}
	for name, s := range w.table.stores {
		src := w.sources[name]
		if src == nil {
			continue // whoever uses its secrets is told so
		}
		begin, at := w.table.begins(s, now, src.mayPoll)
		polls = append(polls, begin...)
		if !at.IsZero() && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	w.again = again
	return polls, again
}

// Status tells of every provider, by name.
func (w *Watch) Status() []SourceStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	rows := make([]SourceStatus, 0, len(w.sources))
	for name, src := range w.sources {
		row := src.status(now)
		if s := w.table.stores[name]; s != nil {
			row.Secrets = len(s.entries)
			for _, e := range s.entries {
				if row.Shortest == 0 || e.every < row.Shortest {
					row.Shortest = e.every
				}
				row.Longest = max(row.Longest, e.every)
				row.Late = max(row.Late, now.Sub(e.due))
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b SourceStatus) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// Known is what is known of one secret in use.
type Known struct {
	ID      secret.ID
	Version secret.Version // empty: not known
	Since   time.Time      // when it was heard for the first time
	Checked time.Time      // when the last call began that has ended
	Next    time.Time      // when it is asked for again, if nothing else is a reason; zero: it is being asked for
	Err     error          // of the last call
}

// Secrets tells what is known of each secret in use, in their order.
func (w *Watch) Secrets() []Known {
	w.mu.Lock()
	defer w.mu.Unlock()
	var rows []Known
	for _, s := range w.table.stores {
		for _, e := range s.entries {
			k := Known{ID: e.id, Version: e.version, Since: e.since, Checked: e.at, Err: e.err}
			if e.flight == nil {
				k.Next = e.next()
			}
			rows = append(rows, k)
		}
	}
	slices.SortFunc(rows, func(a, b Known) int { return a.ID.Compare(b.ID) })
	return rows
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
