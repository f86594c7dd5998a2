package watch

import (
	"container/heap"
	"errors"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

const (
	// quiet is how long a secret that changed must stay as it is before its users are
	// compared: secrets that change together, or one that changes several times, make
	// one rotation.
	quiet = 250 * time.Millisecond
	// polledQuiet is the same after a poll that found a change by itself, unless a tenth
	// of the longest interval is shorter: nobody tells of what changes beside it.
	polledQuiet = time.Second
	// mostNoise is how long changes that do not end are waited for.
	mostNoise = 3 * time.Second
	// quickest is the shortest interval.
	quickest = time.Second
	// grain is the shortest time between two moments at which polls begin, unless a
	// fiftieth of the longest interval is shorter: to wake up costs more than a poll.
	grain = time.Second
	// atOnce bounds the polls of one provider that are on their way.
	atOnce = 8
)

// table is what is known of the secrets in use, by provider. It has a clock of its
// own, which ticks whenever something happens whose order matters.
type table struct {
	stores  map[string]*store
	longest time.Duration
	epoch   time.Time                         // one of the moments at which polls begin
	random  func(time.Duration) time.Duration // from 0 up to its argument
	clock   uint64

	unsettled  int       // entries with a check to come
	first, end time.Time // of the news that nobody was told; zero: there is none
}

// store has the entries of one provider; those on which no call is on its way are in
// the order in which they are due.
type store struct {
	entries map[string]*entry
	queue   queue
	running int // polls on their way
}

// entry is one secret.
type entry struct {
	id      secret.ID
	version secret.Version // the last one known
	err     error          // of the last call
	known   bool           // a call has ended
	begun   uint64         // tick at which the call began that ended last
	at      time.Time      // when that was
	first   time.Time      // when the first call ended
	heard   uint64         // tick at which version was heard for the first time
	since   time.Time      // when that was
	asked   uint64         // answers of calls that began before this tick are out of date
	urgent  bool           // a person asked: the answer to that is not waited with

	every  time.Duration // the interval in force
	due    time.Time     // the next poll
	check  time.Time     // look whether it still changes; zero: no need
	began  time.Time     // when that began, while check is set
	flight chan struct{} // closed when the call that is on its way ends; nil: there is none
	place  int           // in the queue; -1: in none
}

func newTable(longest time.Duration, random func(time.Duration) time.Duration) *table {
	return &table{stores: map[string]*store{}, longest: longest, random: random}
}

func (t *table) tick() uint64 { t.clock++; return t.clock }

func (t *table) store(name string) *store {
	s := t.stores[name]
	if s == nil {
		s = &store{entries: map[string]*entry{}}
		t.stores[name] = s
	}
	return s
}

// entry returns that of a secret, which is in use from now on.
func (t *table) entry(id secret.ID, now time.Time) *entry {
	s := t.store(id.Provider)
	e := s.entries[id.Path]
	if e == nil {
		e = &entry{id: id, every: t.longest, due: now}
		s.entries[id.Path] = e
		heap.Push(&s.queue, e)
	}
	return e
}

// known returns the entry of a secret in use; nil for another.
func (t *table) known(id secret.ID) *entry {
	if s := t.stores[id.Provider]; s != nil {
		return s.entries[id.Path]
	}
	return nil
}

// use makes these the secrets in use, and forgets all others. It returns the stores that
// nobody needs any more.
func (t *table) use(ids []secret.ID, now time.Time) (idle []string) {
	keep := map[secret.ID]bool{}
	for _, id := range ids {
		keep[id] = true
		t.entry(id, now)
	}
	for name, s := range t.stores {
		before := len(s.entries)
		for path, e := range s.entries {
			if keep[e.id] {
				continue
			}
			delete(s.entries, path)
			t.settle(e)
			if e.place >= 0 {
				heap.Remove(&s.queue, e.place)
			}
		}
		if before > 0 && len(s.entries) == 0 {
			idle = append(idle, name)
		}
	}
	return idle
}

// invalidate makes what is known of a secret out of date: it is asked for at once.
func (t *table) invalidate(e *entry) {
	e.asked = t.tick()
	t.stores[e.id.Provider].moved(e)
}

// urge invalidates what a person asks for by name: it is what is wanted, changing or not.
func (t *table) urge(e *entry) {
	t.settle(e)
	e.urgent = true
	t.invalidate(e)
}

// changes reports whether the secret may be in the middle of a change, and when an answer
// can say that it stands still. Of the first version that was heard nothing tells since when
// it is the current one.
func (e *entry) changes(now time.Time) (at time.Time, yes bool) {
	first := e.first.Add(quiet)
	switch {
	case !e.check.IsZero():
		return e.check, now.Before(e.began.Add(mostNoise))
	case e.known && e.at.Before(first):
		return first, true
	}
	return time.Time{}, false
}

// fresh reports whether an entry is the answer of a call that began at need or later.
func (e *entry) fresh(need uint64) bool { return e.known && e.begun >= max(need, e.asked) }

// begin is called when a call about the entry begins, and returns when that is.
func (t *table) begin(e *entry, now time.Time) flight {
	e.flight = make(chan struct{})
	if s := t.stores[e.id.Provider]; e.place >= 0 {
		heap.Remove(&s.queue, e.place)
	}
	return flight{entry: e, tick: t.tick(), at: now}
}

// flight is a call on its way.
type flight struct {
	entry *entry
	tick  uint64
	at    time.Time
	alone bool // nothing but the time was a reason for it
}

// dropped ends a flight that has no answer.
func (t *table) dropped(f flight) {
	close(f.entry.flight)
	f.entry.flight = nil
	if s := t.stores[f.entry.id.Provider]; s.entries[f.entry.id.Path] == f.entry {
		heap.Push(&s.queue, f.entry)
	}
}

// answer ends a flight with what the call ended with.
func (t *table) answer(f flight, now time.Time, v secret.Version, err error) {
	defer t.dropped(f)
	e := f.entry
	if t.stores[e.id.Provider].entries[e.id.Path] != e {
		return // nobody uses it any more
	}
	was, before, failedBefore, urgent := e.known, e.version, e.err != nil, e.urgent
	e.urgent = urgent && f.tick < e.asked
	e.known, e.begun, e.at, e.err = true, f.tick, f.at, err
	if err != nil {
		t.settle(e)
		t.later(e, now, err)
		return
	}
	e.version = v
	switch {
	case !was:
		e.heard, e.first, e.since = t.tick(), now, now
		e.every = t.longest
		e.due = t.moment(now.Add(t.step() + t.random(t.longest-t.step()))) // hosts and secrets do not ask at the same time
	case v != before:
		e.heard, e.since = t.tick(), now
		e.every = min(max(t.longest/8, quickest), t.longest)
		e.due = t.moment(now.Add(e.every - t.random(e.every/10)))
		if !urgent {
			t.unsettle(e, now, t.gap(f))
		}
		t.news(now, t.gap(f))
	default:
		if !now.Before(e.check) { // a push in between says nothing about the rest of the time
			t.settle(e)
		}
		if failedBefore { // containers could not be compared meanwhile
			e.heard = t.tick()
			t.news(now, quiet)
		}
		t.same(e, now)
	}
}

// same sets the next poll after an answer that says nothing new. With the longest
// interval the polls stand where they began to be, so that there are no more of them
// than intervals; what was asked in between changes nothing.
func (t *table) same(e *entry, now time.Time) {
	if now.Before(e.due) {
		return
	}
	e.every = min(2*e.every, t.longest)
	if e.every < t.longest {
		e.due = t.moment(now.Add(e.every - t.random(e.every/10)))
		return
	}
	missed := now.Sub(e.due) / e.every
	e.due = e.due.Add((missed + 1) * e.every)
}

// later sets the next poll after a call without an answer.
func (t *table) later(e *entry, now time.Time, err error) {
	var open *OpenError
	switch {
	case errors.As(err, &open):
		e.due = open.Next
	case provider.Retryable(err):
		e.every = min(max(t.longest/8, quickest), t.longest)
		e.due = now.Add(max(e.every-t.random(e.every/10), provider.RetryAfter(err)))
	default:
		e.every = t.longest
		e.due = now.Add(e.every - t.random(e.every/10))
	}
}

func (t *table) step() time.Duration { return min(grain, t.longest/50) }

// moment returns the last of the moments at which polls begin that is not after a time.
func (t *table) moment(at time.Time) time.Time {
	if t.epoch.IsZero() {
		t.epoch = at
	}
	step := t.step()
	after := at.Sub(t.epoch) % step
	if after < 0 {
		after += step
	}
	return at.Add(-after)
}

// unsettle notes that an entry changed, and must stay as it is for so long.
func (t *table) unsettle(e *entry, now time.Time, gap time.Duration) {
	if e.check.IsZero() {
		t.unsettled++
		e.began = now
	}
	e.check = now.Add(gap)
}

func (t *table) settle(e *entry) {
	if !e.check.IsZero() {
		t.unsettled--
	}
	e.check = time.Time{}
}

// gap is how long a secret that a call found changed must stay as it is.
func (t *table) gap(f flight) time.Duration {
	if f.alone {
		return max(quiet, min(polledQuiet, t.longest/10))
	}
	return quiet
}

func (t *table) news(now time.Time, gap time.Duration) {
	if t.first.IsZero() {
		t.first, t.end = now, now
	}
	if end := now.Add(gap); end.After(t.end) {
		t.end = end
	}
}

// tell reports whether it is time to tell of the news, or when it will be: when they
// have come to an end, or have not for long enough.
func (t *table) tell(now time.Time) (yes bool, at time.Time) {
	if t.first.IsZero() {
		return false, time.Time{}
	}
	at = t.first.Add(mostNoise)
	if t.unsettled == 0 && t.end.Before(at) {
		at = t.end
	}
	if now.Before(at) {
		return false, at
	}
	t.first = time.Time{}
	return true, time.Time{}
}

// soonerThan reports whether, after the end of a call to a store, there may be something to
// do before a moment; zero: at any time. To wake up for nothing costs more than a poll.
func (t *table) soonerThan(at time.Time, name string) bool {
	if at.IsZero() || !t.first.IsZero() {
		return true
	}
	s := t.stores[name]
	return len(s.queue) > 0 && s.queue[0].next().Before(at)
}

// begins takes out the polls of a store that are to begin now, and tells when to look
// again; zero: when a call has ended or something else happens. may tells whether the
// store can be asked, with nothing else on its way or not.
func (t *table) begins(s *store, now time.Time, may func(now time.Time, alone bool) (bool, time.Time)) (out []flight, again time.Time) {
	for len(s.queue) > 0 && s.running < atOnce {
		e := s.queue[0]
		if at := e.next(); at.After(now) {
			return out, at
		}
		ok, at := may(now, s.running == 0)
		if !ok {
			return out, at
		}
		s.running++
		alone := e.asked <= e.begun && e.check.IsZero()
		f := t.begin(e, now)
		f.alone = alone
		out = append(out, f)
	}
	return out, time.Time{}
}

// next is when the entry is to be asked.
func (e *entry) next() time.Time {
	switch {
	case e.asked > e.begun:
		return time.Time{}
	case !e.check.IsZero() && e.check.Before(e.due):
		return e.check
	}
	return e.due
}

// bound sets the longest interval. What waited longer waits no longer than that.
func (t *table) bound(longest time.Duration, now time.Time) {
	t.longest = longest
	for _, s := range t.stores {
		for _, e := range s.entries {
			e.every = min(e.every, longest)
			if e.due.After(now.Add(longest)) {
				e.due = t.moment(now.Add(t.random(longest)))
				s.moved(e)
			}
		}
	}
}

// moved puts an entry where it belongs after it has become due at another time.
func (s *store) moved(e *entry) {
	if e.place >= 0 {
		heap.Fix(&s.queue, e.place)
	}
}

// queue is a heap of entries by when they are due.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next().Before(q[j].next()) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements [heap.Interface].
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	e.place = -1
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
