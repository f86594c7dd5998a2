package watch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var (
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	errDown = errors.New("connection refused")
)

func TestBreaker_OpensAfterFailuresInARow(t *testing.T) {
	var b breaker
	for i := range 2 * openAfter {
		if i == openAfter-1 { // one answer in between begins the count again
			_, _ = b.note(noon, nil, time.Hour)
		}
		opened, _ := b.note(noon, errDown, time.Hour)
		assert.Equal(t, opened, i == 2*openAfter-2, "failure %d", i)
	}
	assert.Assert(t, b.open())
}

func TestBreaker_WhatItTakesForAFailure(t *testing.T) {
	for _, tc := range []struct {
		err   error
		calls int // until it is open; zero: never
	}{
		{errDown, openAfter},
		{context.DeadlineExceeded, openAfter},
		{&provider.Throttled{}, openAfter},
		{fmt.Errorf("x: %w", provider.ErrMalformed), openAfter},
		{fmt.Errorf("x: %w", provider.ErrCredential), 1},
		{fmt.Errorf("x: %w", &provider.Throttled{After: time.Second}), 1},
		{provider.ErrNotFound, 0},
		{provider.ErrNoVersion, 0},
		{provider.ErrDenied, 0},
		{provider.ErrTooLarge, 0},
		{provider.ErrPermanent, 0},
		{context.Canceled, 0},
		{nil, 0},
	} {
		var b breaker
		for i := 1; i <= 3*openAfter; i++ {
			if opened, _ := b.note(noon, tc.err, time.Hour); opened {
				assert.Equal(t, i, tc.calls, "%v", tc.err)
			}
		}
		assert.Equal(t, b.open(), tc.calls > 0, "%v", tc.err)
	}
}

// pauses lets probes fail as soon as they may.
func pauses(n int, err error, longest time.Duration) (out []time.Duration) {
	var b breaker
	now := noon
	for !b.open() {
		_, _ = b.note(now, err, longest)
	}
	for range n {
		out = append(out, b.next.Sub(now))
		now = b.next
		_, _ = b.note(now, err, longest)
	}
	return out
}

func TestBreaker_ProbesHaveGrowingPausesWithABound(t *testing.T) {
	const s, m = time.Second, time.Minute
	assert.DeepEqual(t, pauses(5, errDown, m), []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, m})
	assert.DeepEqual(t, pauses(3, errDown, 2*s), []time.Duration{2 * s, 2 * s, 2 * s})
	assert.DeepEqual(t, pauses(9, errDown, 24*time.Hour)[6:], []time.Duration{320 * s, 10 * m, 10 * m})
	// An account that is asked every second is locked soon.
	assert.DeepEqual(t, pauses(7, provider.ErrCredential, s), []time.Duration{30 * s, m, 2 * m, 4 * m, 8 * m, 10 * m, 10 * m})
	assert.DeepEqual(t, pauses(2, &provider.Throttled{After: time.Hour}, m), []time.Duration{time.Hour, time.Hour})
}

func TestBreaker_AStartThatFailsMovesNoProbe(t *testing.T) {
	var b breaker
	_, _ = b.note(noon, provider.ErrCredential, time.Hour)
	next := b.next
	for range 5 {
		opened, closed := b.note(noon.Add(time.Second), errDown, time.Hour)
		assert.Assert(t, !opened && !closed)
	}
	assert.Equal(t, b.next, next)
}

func TestBreaker_AnAnswerClosesIt(t *testing.T) {
	for _, err := range []error{nil, provider.ErrNotFound, provider.ErrDenied} {
		var b breaker
		_, _ = b.note(noon, provider.ErrCredential, time.Hour)
		_, closed := b.note(noon.Add(time.Second), err, time.Hour)
		assert.Assert(t, closed && !b.open())
		assert.Equal(t, b.failures, 0)
	}
	var b breaker
	_, _ = b.note(noon, provider.ErrCredential, time.Hour)
	_, closed := b.note(b.next, provider.ErrPermanent, time.Hour)
	assert.Assert(t, !closed && b.open(), "a redirect is no answer of the store")
}

func TestBudget_NoMinuteHasMoreThanItMay(t *testing.T) {
	for _, perMinute := range []int{1, 2, 10, 60, 600, 6000} {
		b := budget{perMinute: perMinute}
		var at []time.Time
		for now := noon; now.Before(noon.Add(5 * time.Minute)); {
			if wait := b.wait(now); wait > 0 {
				now = now.Add(wait)
				continue
			}
			b.charge(now)
			at = append(at, now)
		}
		most := 0
		for i, j := 0, 0; j < len(at); j++ {
			for at[j].Sub(at[i]) >= time.Minute {
				i++
			}
			most = max(most, j-i+1)
		}
		assert.Assert(t, most <= perMinute, "%d in a minute, %d allowed", most, perMinute)
		assert.Assert(t, len(at) >= 5*perMinute/2, "%d in five minutes, %d allowed in each", len(at), perMinute)
	}
}

func TestBudget_WhatDoesNotWaitIsMadeUpFor(t *testing.T) {
	b := budget{perMinute: 60}
	for range 1000 {
		b.charge(noon)
	}
	assert.Assert(t, b.wait(noon) > 50*time.Second && b.wait(noon) < 65*time.Second, "%s: no more than a minute is owed", b.wait(noon))
	var none budget
	none.charge(noon)
	assert.Equal(t, none.wait(noon), time.Duration(0))
}

// poll lets a secret be asked once, at its time, and returns how long that took.
func (s *schedule) poll(v secret.Version, err error) time.Duration {
	before := s.now
	e := s.entry(s.id, s.now)
	if at := e.next(); at.After(s.now) {
		s.now = at
	}
	s.answer(s.begin(e, s.now), s.now, v, err)
	return s.now.Sub(before)
}

// schedule is a table with one secret and no chance in it.
type schedule struct {
	*table
	id  secret.ID
	now time.Time
}

func newSchedule(longest time.Duration) *schedule {
	none := func(time.Duration) time.Duration { return 0 }
	return &schedule{newTable(longest, none), secret.ID{Provider: "p", Path: "x"}, noon}
}

func TestInterval_IsShortAfterAChangeAndGrowsToTheBound(t *testing.T) {
	s := newSchedule(time.Minute)
	s.poll("1", nil)
	s.poll("1", nil)
	assert.Equal(t, s.poll("1", nil), time.Minute)
	s.poll("2", nil)
	var took []time.Duration
	for range 7 {
		took = append(took, s.poll("2", nil))
	}
	const sec = time.Second
	assert.DeepEqual(t, took, []time.Duration{quiet, 7*sec - quiet, 15 * sec, 30 * sec, 60 * sec, 60 * sec, 60 * sec})
}

func TestInterval_AfterAFailure(t *testing.T) {
	s := newSchedule(time.Minute)
	s.poll("1", nil)
	s.poll("", errDown)
	assert.Equal(t, s.poll("", &provider.Throttled{After: 10 * time.Minute}), 7500*time.Millisecond, "soon, as it may be over")
	assert.Equal(t, s.poll("", provider.ErrNotFound), 10*time.Minute, "the store is believed")
	assert.Equal(t, s.poll("", &OpenError{Next: s.now.Add(3 * time.Minute)}), time.Minute, "nobody mends it by himself")
	assert.Equal(t, s.poll("1", nil), 2*time.Minute, "the next probe")
}

// Whatever the chance and the answers, a store that answers is never asked later than
// the bound says, nor oftener than once a second.
func TestInterval_IsNeverLongerThanTheBound(t *testing.T) {
	for _, longest := range []time.Duration{time.Second, 10 * time.Second, time.Minute, 24 * time.Hour} {
		for _, chance := range []float64{0, 0.5, 1} {
			s := newSchedule(longest)
			s.random = func(d time.Duration) time.Duration { return time.Duration(chance * float64(d)) }
			version := 0
			for i := range 200 {
				if i%17 == 0 || i%31 < 2 {
					version++
				}
				took := s.poll(secret.Version(fmt.Sprint(version)), nil)
				assert.Assert(t, took <= longest, "%s after %s", took, longest)
			}
		}
	}
}

func TestInterval_ManyPollsBeginAtFewMoments(t *testing.T) {
	s := newSchedule(time.Minute)
	s.epoch = noon
	seen := map[time.Time]bool{}
	for i := range 10000 {
		at := noon.Add(time.Duration(i-5000) * 7919 * time.Microsecond)
		m := s.moment(at)
		assert.Assert(t, !m.After(at) && at.Sub(m) < grain, "%s for %s", m, at)
		seen[m] = true
	}
	assert.Assert(t, len(seen) < 170, "%d", len(seen))
}

func TestInterval_AQuestionInBetweenAddsNoPoll(t *testing.T) {
	s := newSchedule(time.Minute)
	for range 5 {
		s.poll("1", nil)
	}
	due := s.entry(s.id, s.now).due
	s.now = s.now.Add(10 * time.Second)
	s.answer(s.begin(s.entry(s.id, s.now), s.now), s.now, "1", nil)
	assert.Equal(t, s.entry(s.id, s.now).due, due)
}

func TestUse_ForgetsWhatNobodyUses(t *testing.T) {
	s := newSchedule(time.Minute)
	other := secret.ID{Provider: "p", Path: "y"}
	s.use([]secret.ID{s.id, other}, noon)
	f := s.begin(s.entry(s.id, noon), noon)
	s.use([]secret.ID{other}, noon)
	s.answer(f, noon, "1", nil)
	assert.Equal(t, len(s.store("p").entries), 1)
	assert.Equal(t, len(s.store("p").queue), 1)
	s.answer(s.begin(s.entry(other, noon), noon), noon, "1", nil)
	s.answer(s.begin(s.entry(other, noon), noon), noon, "2", nil)
	assert.Equal(t, s.unsettled, 1)
	s.use(nil, noon)
	assert.Equal(t, len(s.store("p").queue), 0)
	assert.Equal(t, s.unsettled, 0)
}
