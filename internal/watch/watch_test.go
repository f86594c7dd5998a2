package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/watch"
)

var errRefused = errors.New("connection refused")

// store is a provider in memory that remembers who asked when.
type store struct {
	mu       sync.Mutex
	versions map[string]int
	err      error
	slow     time.Duration // of every call
	asked    []call
	values   int
}

type call struct {
	path string
	at   time.Time
}

func newStore(paths ...string) *store {
	s := &store{versions: map[string]int{}}
	for _, p := range paths {
		s.versions[p] = 1
	}
	return s
}

func (s *store) Version(ctx context.Context, path string) (secret.Version, error) {
	s.mu.Lock()
	s.asked = append(s.asked, call{path, time.Now()})
	slow := s.slow
	s.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret.Version(fmt.Sprint(s.versions[path])), s.err
}

func (s *store) Get(ctx context.Context, path string, _ secret.Version) (secret.Value, secret.Version, error) {
	s.mu.Lock()
	s.values++
	s.mu.Unlock()
	v, err := s.Version(ctx, path)
	return secret.Value{}, v, err
}

func (s *store) set(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[path]++
}

func (s *store) breaks(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *store) slows(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = d
}

func (s *store) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// since returns the calls after the first n.
func (s *store) since(n int) []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[n:])
}

// names takes references literally: dso://provider/path.
type names struct{}

func (names) IDs(_ string, refs []secret.Ref) []secret.ID {
	var ids []secret.ID
	for _, r := range refs {
		ids = append(ids, r.In("", func(string) bool { return true }))
	}
	return ids
}

// rig is a watch over stores, that polls.
type rig struct {
	*watch.Watch
	t       *testing.T
	log     *bytes.Buffer // written under the source's lock, read when all is quiet
	sources map[string]*watch.Source
}

// watching runs a test in a bubble, with a watch over stores.
func watching(t *testing.T, longest time.Duration, stores map[string]*store, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, log: &bytes.Buffer{}, sources: map[string]*watch.Source{}}
		for name, s := range stores {
			r.sources[name] = &watch.Source{Provider: s, Name: name, Attempts: 1, Log: slog.New(slog.NewTextHandler(r.log, nil))}
		}
		r.Watch = watch.New(names{})
		r.Over(r.sources, longest)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		test(r)
	})
}

func refs(paths ...string) []secret.Ref {
	var out []secret.Ref
	for _, p := range paths {
		r, err := secret.ParseRef("dso://" + p)
		if err != nil {
			panic(err)
		}
		out = append(out, r)
	}
	return out
}

func (r *rig) desired(paths ...string) []string {
	r.t.Helper()
	vs, err := r.Desired(r.t.Context(), "", refs(paths...))
	assert.NilError(r.t, err)
	return texts(vs)
}

// known makes the secrets ones that were looked at before and stand still.
func (r *rig) known(paths ...string) {
	r.t.Helper()
	r.desired(paths...)
	time.Sleep(time.Second)
	r.Push("p")
	synctest.Wait()
}

func texts(vs secret.Versions) (out []string) {
	for _, id := range vs.IDs() {
		out = append(out, string(vs[id]))
	}
	return out
}

// tellings waits and returns how often changes were told of.
func (r *rig) tellings(d time.Duration) (n int) {
	end := time.After(d)
	for {
		select {
		case <-r.Changed():
			n++
		case <-end:
			return n
		}
	}
}

func many(n int) (paths, named []string) {
	for i := range n {
		paths = append(paths, fmt.Sprintf("s%02d", i))
		named = append(named, "p/"+paths[i])
	}
	return paths, named
}

func TestDesired_OneCallHoweverManyAsk(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		s.slows(time.Second)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { assert.DeepEqual(r.t, r.desired("p/x"), []string{"1"}) })
		}
		wg.Wait()
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"1"})
		assert.Equal(r.t, s.calls(), 1)
	})
}

func TestDesired_WhoGoesAwayLeavesTheQuestionToTheOthers(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		s.slows(time.Second)
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := r.Desired(ctx, "", refs("p/x"))
			assert.ErrorIs(r.t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"1"})
		wg.Wait()
		assert.Equal(r.t, r.Status()[0].Failed, 0)
	})
}

func TestRun_AsksForEachSecretOnceAnInterval(t *testing.T) {
	const interval = 10 * time.Second
	paths, named := many(100)
	s := newStore(paths...)
	watching(t, interval, map[string]*store{"p": s}, func(r *rig) {
		for range 10 {
			r.desired(named...)
		}
		time.Sleep(2 * interval)
		before := s.calls()
		time.Sleep(20 * interval)
		all := s.since(before)
		assert.Equal(r.t, len(all), 20*100)
		last := map[string]time.Time{}
		for i, c := range all {
			if before, ok := last[c.path]; ok {
				assert.Assert(r.t, c.at.Sub(before) <= interval, "%s after %s", c.path, c.at.Sub(before))
			}
			last[c.path] = c.at
			if i >= 100 {
				assert.Assert(r.t, c.at.Sub(all[i-100].at) >= interval, "more than 100 calls in an interval")
			}
		}
		assert.Assert(r.t, all[99].at.Sub(all[0].at) > interval/2, "they are not all at one moment")
		assert.Equal(r.t, s.values, 0)
		assert.Equal(r.t, r.tellings(interval), 0)
	})
}

func TestRun_AChangeIsToldOfWithinTheInterval(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/x")
		for range 10 {
			time.Sleep(7 * time.Minute)
			s.set("x")
			begun := time.Now()
			<-r.Changed()
			assert.Assert(r.t, time.Since(begun) <= time.Minute+time.Second, "%s", time.Since(begun))
		}
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"11"})
	})
}

func TestPush_IsLookedAtAtOnce(t *testing.T) {
	s, other := newStore("x", "y"), newStore("x")
	watching(t, 24*time.Hour, map[string]*store{"p": s, "q": other}, func(r *rig) {
		r.desired("p/x", "p/y", "q/x")
		s.set("x")
		calls := s.calls()
		assert.Equal(r.t, r.Push("p", "x"), 1)
		begun := time.Now()
		<-r.Changed()
		assert.Assert(r.t, time.Since(begun) < time.Second)
		for _, c := range s.since(calls) {
			assert.Equal(r.t, c.path, "x")
		}
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"2"})

		assert.Equal(r.t, r.Push("p", "nobody/uses/it"), 0)
		assert.Equal(r.t, r.Push("nothing", "x"), 0)
		assert.Equal(r.t, r.Push("p"), 2)
		assert.Equal(r.t, r.tellings(time.Minute), 0, "nothing changed")
		assert.Equal(r.t, other.calls(), 1)
	})
}

func TestRun_ABurstIsToldOfOnce(t *testing.T) {
	paths, named := many(100)
	for name, burst := range map[string]func(r *rig, s *store){
		"one secret, ten times": func(r *rig, s *store) {
			for range 10 {
				s.set("s07")
				r.Push("p", "s07")
				time.Sleep(100 * time.Millisecond)
			}
		},
		"a hundred secrets": func(r *rig, s *store) {
			for _, path := range paths {
				s.set(path)
				r.Push("p")
				time.Sleep(10 * time.Millisecond)
			}
		},
		"one that nobody tells of": func(_ *rig, s *store) {
			time.Sleep(time.Minute)
			for range 10 {
				s.set("s07")
				time.Sleep(100 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(paths...)
			watching(t, 2*time.Second, map[string]*store{"p": s}, func(r *rig) {
				r.desired(named...)
				var wg sync.WaitGroup
				wg.Go(func() { burst(r, s) })
				assert.Equal(r.t, r.tellings(2*time.Minute), 1)
				wg.Wait()
				for i, v := range r.desired(named...) {
					assert.Equal(r.t, v, fmt.Sprint(s.versions[paths[i]]))
				}
			})
		})
	}
}

func TestRun_ChangesThatDoNotEndAreToldOfAllTheSame(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/x")
		ctx, cancel := context.WithCancel(r.t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				s.set("x")
				r.Push("p")
				time.Sleep(50 * time.Millisecond)
			}
		})
		told := r.tellings(time.Minute)
		cancel()
		wg.Wait()
		assert.Assert(r.t, told >= 10 && told <= 20, "%d", told)
	})
}

func TestConfirm_IsOfCallsThatBeganAfterTheMoment(t *testing.T) {
	s := newStore("x")
	watching(t, time.Hour, map[string]*store{"p": s}, func(r *rig) {
		r.known("p/x")
		time.Sleep(time.Second)
		s.set("x") // a container is started now and gets it
		started := time.Now()
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"1"})
		vs, err := r.Confirm(r.t.Context(), "", refs("p/x"), started)
		assert.NilError(r.t, err)
		assert.DeepEqual(r.t, texts(vs), []string{"2"})

		time.Sleep(time.Second)
		calls := s.calls()
		_, err = r.Confirm(r.t.Context(), "", refs("p/x"), started)
		assert.NilError(r.t, err)
		assert.Equal(r.t, s.calls(), calls, "what is known is from after it")
	})
}

// A user and its password change together: what says that one of them did is not
// taken with an older answer about the other.
func TestConfirm_TakesVersionsThatWereCurrentTogether(t *testing.T) {
	s := newStore("user", "password")
	watching(t, time.Hour, map[string]*store{"p": s}, func(r *rig) {
		begun := time.Now().Add(-time.Second)
		r.known("p/user", "p/password")
		time.Sleep(time.Second)
		s.set("user")
		s.set("password")
		r.Push("p", "user")
		<-r.Changed()
		assert.DeepEqual(r.t, r.desired("p/password", "p/user"), []string{"1", "2"})
		vs, err := r.Confirm(r.t.Context(), "", refs("p/password", "p/user"), begun)
		assert.NilError(r.t, err)
		assert.DeepEqual(r.t, texts(vs), []string{"2", "2"})
		assert.Equal(r.t, r.tellings(time.Minute), 1, "others use the password too")
	})
}

// A container that is looked at in the middle of a burst, because it has just started, say,
// is not changed over to half of it.
func TestConfirm_WaitsForTheEndOfABurst(t *testing.T) {
	paths, named := many(100)
	s := newStore(paths...)
	watching(t, 24*time.Hour, map[string]*store{"p": s}, func(r *rig) {
		started := time.Now()
		r.known(named...)
		time.Sleep(time.Minute)
		var burst sync.WaitGroup
		burst.Go(func() {
			for _, path := range paths {
				s.set(path)
				r.Push("p")
				time.Sleep(10 * time.Millisecond)
			}
		})
		time.Sleep(305 * time.Millisecond)
		vs, err := r.Confirm(r.t.Context(), "", refs(named...), started)
		burst.Wait()
		assert.NilError(r.t, err)
		for id, v := range vs {
			assert.Equal(r.t, string(v), "2", id)
		}
	})
}

// But not for longer than a rotation waits for it.
func TestConfirm_DoesNotWaitForAChangeWithoutEnd(t *testing.T) {
	s := newStore("x", "y")
	watching(t, time.Hour, map[string]*store{"p": s}, func(r *rig) {
		started := time.Now()
		r.known("p/x", "p/y")
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(r.t.Context())
		var changing sync.WaitGroup
		changing.Go(func() {
			for ctx.Err() == nil {
				s.set("x")
				r.Push("p", "x")
				time.Sleep(100 * time.Millisecond)
			}
		})
		time.Sleep(50 * time.Millisecond)
		begun := time.Now()
		_, err := r.Confirm(r.t.Context(), "", refs("p/x", "p/y"), started)
		took := time.Since(begun)
		again := time.Now()
		_, errAgain := r.Confirm(r.t.Context(), "", refs("p/x", "p/y"), started)
		tookAgain := time.Since(again)
		cancel()
		changing.Wait()
		assert.NilError(r.t, err)
		assert.NilError(r.t, errAgain)
		assert.Assert(r.t, took > 2900*time.Millisecond && took < 3500*time.Millisecond, "%s", took)
		assert.Assert(r.t, tookAgain < 300*time.Millisecond, "%s", tookAgain)
	})
}

// Who asks for it by name gets what there is now, whether a push came before that or not.
func TestConfirm_DoesNotWaitForWhatAPersonAskedFor(t *testing.T) {
	s := newStore("x", "y")
	watching(t, 24*time.Hour, map[string]*store{"p": s}, func(r *rig) {
		started := time.Now()
		r.known("p/x", "p/y")
		for i, pushed := range []bool{false, true} {
			time.Sleep(time.Minute)
			s.set("x")
			if pushed {
				r.Push("p", "x")
				synctest.Wait()
			}
			begun := time.Now()
			r.Invalidate(secret.ID{Provider: "p", Path: "x"})
			vs, err := r.Confirm(r.t.Context(), "", refs("p/x", "p/y"), started)
			assert.NilError(r.t, err)
			assert.DeepEqual(r.t, texts(vs), []string{fmt.Sprint(i + 2), "1"})
			assert.Equal(r.t, time.Since(begun), time.Duration(0))
			assert.Equal(r.t, r.tellings(time.Minute), 1, "others use it too")
		}
	})
}

func TestConfirm_GivesUpOnSecretsThatNeverStandStill(t *testing.T) {
	s := newStore("x", "y")
	watching(t, time.Hour, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/x", "p/y")
		never := provider.Provider(changing{s})
		r.Over(map[string]*watch.Source{"p": {Provider: never, Name: "p", Attempts: 1, Log: slog.New(slog.DiscardHandler)}}, time.Hour)
		_, err := r.Confirm(r.t.Context(), "", refs("p/x", "p/y"), time.Now())
		assert.ErrorContains(r.t, err, "changed 5 times while they were compared")
	})
}

// changing has another version whenever it is asked.
type changing struct{ *store }

func (c changing) Version(ctx context.Context, path string) (secret.Version, error) {
	c.set(path)
	return c.store.Version(ctx, path)
}

func TestInvalidate_AsksAgainAndNoMoreThanThat(t *testing.T) {
	paths, named := many(10)
	s := newStore(paths...)
	watching(t, 24*time.Hour, map[string]*store{"p": s}, func(r *rig) {
		r.desired(named...)
		r.Invalidate(secret.ID{Provider: "p", Path: "s03"})
		for range 5 {
			r.desired(named...)
		}
		synctest.Wait()
		assert.Equal(r.t, s.calls(), 11)
		r.InvalidateAll()
		synctest.Wait()
		assert.Equal(r.t, s.calls(), 21)
	})
}

func TestUse_WhatNobodyUsesIsNotAskedFor(t *testing.T) {
	s := newStore("x", "y")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/x", "p/y")
		r.Use([]secret.ID{{Provider: "p", Path: "y"}})
		calls := s.calls()
		time.Sleep(5 * time.Minute)
		for _, c := range s.since(calls) {
			assert.Equal(r.t, c.path, "y")
		}
		assert.Equal(r.t, r.Status()[0].Secrets, 1)
	})
}

func TestOver_AReplacedProviderIsAskedAnewAndTheOthersAreNot(t *testing.T) {
	s, other := newStore("x"), newStore("x")
	watching(t, 24*time.Hour, map[string]*store{"p": s, "q": other}, func(r *rig) {
		r.desired("p/x", "q/x")
		s.set("x")
		r.Over(map[string]*watch.Source{"p": {Provider: s, Name: "p", Attempts: 1, Log: slog.New(slog.DiscardHandler)}, "q": r.sources["q"]}, time.Hour)
		<-r.Changed()
		assert.Equal(r.t, other.calls(), 1)
		time.Sleep(time.Hour)
		assert.Equal(r.t, other.calls(), 2, "the interval is another now")
	})
}

func TestRun_AStoreThatIsDownIsProbedAndNothingElse(t *testing.T) {
	paths, named := many(50)
	s := newStore(paths...)
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		r.desired(named...)
		time.Sleep(time.Minute)
		s.breaks(errRefused)
		r.Push("p")
		synctest.Wait()
		st := r.Status()[0]
		assert.Assert(r.t, st.Open)
		assert.ErrorIs(r.t, st.Err, errRefused)
		assert.Assert(r.t, st.Next.After(time.Now()))
		calls := s.calls()
		time.Sleep(10 * time.Minute)
		probes := s.calls() - calls
		assert.Assert(r.t, probes >= 10 && probes <= 15, "%d probes in ten minutes", probes)
		assert.Equal(r.t, strings.Count(r.log.String(), "circuit open"), 1)
		_, err := r.Desired(r.t.Context(), "", refs("p/s01"))
		assert.ErrorIs(r.t, err, errRefused)
		var open *watch.OpenError
		_, err = r.Confirm(r.t.Context(), "", refs("p/s01"), time.Now())
		assert.Assert(r.t, errors.As(err, &open), "%v", err)
		assert.ErrorContains(r.t, err, "the store is asked again at ")

		s.breaks(nil)
		down := time.Now()
		assert.Equal(r.t, r.tellings(2*time.Minute), 1, "its users are compared again")
		assert.Assert(r.t, r.Status()[0].Good.Sub(down) > 0 && !r.Status()[0].Open)
		assert.Equal(r.t, strings.Count(r.log.String(), "circuit closed"), 1)
		r.desired(named...)
	})
}

func TestPush_AsksAStoreThatWasDownAtOnce(t *testing.T) {
	s := newStore("x")
	watching(t, 10*time.Minute, map[string]*store{"p": s}, func(r *rig) {
		s.breaks(provider.ErrCredential)
		_, err := r.Desired(r.t.Context(), "", refs("p/x"))
		assert.ErrorIs(r.t, err, provider.ErrCredential)
		assert.Assert(r.t, r.Status()[0].Open, "no second try with a credential that is not accepted")
		s.breaks(nil)
		r.Invalidate(secret.ID{Provider: "p", Path: "x"})
		assert.DeepEqual(r.t, r.desired("p/x"), []string{"1"})
		assert.Assert(r.t, !r.Status()[0].Open)
	})
}

func TestRun_AStoreThatHangsKeepsNoOtherWaiting(t *testing.T) {
	paths, _ := many(50)
	hangs, s := newStore(paths...), newStore("x")
	watching(t, 10*time.Second, map[string]*store{"p": hangs, "q": s}, func(r *rig) {
		_, named := many(50)
		r.desired(append(named, "q/x")...)
		hangs.slows(time.Hour)
		time.Sleep(time.Minute)
		calls := s.calls()
		time.Sleep(time.Minute)
		assert.Equal(r.t, s.calls()-calls, 6)
		assert.Assert(r.t, r.Status()[0].Open)
		assert.ErrorIs(r.t, r.Status()[0].Err, context.DeadlineExceeded)
	})
}

func TestSource_AStartIsNeverRefused(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		src := &watch.Source{Provider: s, Name: "p", Attempts: 3, Backoff: time.Second, Budget: 2, Log: slog.New(slog.NewTextHandler(r.log, nil))}
		begun := time.Now()
		for range 100 {
			_, _, err := src.Get(r.t.Context(), "x", "")
			assert.NilError(r.t, err)
		}
		assert.Equal(r.t, time.Since(begun), time.Duration(0), "the budget keeps no start waiting")

		s.breaks(errRefused)
		calls := s.calls()
		for range 5 {
			_, _, err := src.Get(r.t.Context(), "x", "")
			assert.Error(r.t, err, "provider p: x: connection refused")
		}
		assert.Equal(r.t, s.calls()-calls, 15)
		calls = s.calls()
		_, err := src.Version(r.t.Context(), "x")
		assert.Error(r.t, err, "provider p: x: connection refused")
		assert.Equal(r.t, s.calls()-calls, 1, "while the circuit is open it asks once")

		s.slows(time.Hour)
		begun = time.Now()
		_, _, err = src.Get(r.t.Context(), "x", "")
		assert.ErrorIs(r.t, err, context.DeadlineExceeded)
		assert.Equal(r.t, time.Since(begun), 3*time.Second, "there is time left for the last good value")

		s.slows(0)
		s.breaks(nil)
		_, _, err = src.Get(r.t.Context(), "x", "")
		assert.NilError(r.t, err)
		assert.Equal(r.t, strings.Count(r.log.String(), "circuit closed"), 1)
	})
}

func TestRun_PollsWaitForTheBudget(t *testing.T) {
	paths, named := many(100)
	s := newStore(paths...)
	watching(t, 10*time.Second, map[string]*store{"p": s}, func(r *rig) {
		src := &watch.Source{Provider: s, Name: "p", Attempts: 1, Budget: 60, Log: slog.New(slog.DiscardHandler)}
		r.Over(map[string]*watch.Source{"p": src}, 10*time.Second)
		r.desired(named...)
		assert.Equal(r.t, s.calls(), 100, "what is needed now does not wait")
		time.Sleep(2 * time.Minute)
		begun := s.calls()
		time.Sleep(20 * time.Minute)
		calls := s.since(begun)
		assert.Assert(r.t, len(calls) <= 20*60 && len(calls) >= 20*58, "%d in 20 minutes", len(calls))
		seen := map[string]int{}
		for _, c := range calls {
			seen[c.path]++
		}
		for _, path := range paths {
			assert.Assert(r.t, seen[path] >= 10 && seen[path] <= 13, "%s %d times: each has its turn", path, seen[path])
		}
		st := r.Status()[0]
		assert.Assert(r.t, st.Late > time.Minute, "%s", st.Late)
		assert.Equal(r.t, st.Budget, 60)
	})
}

func TestStatus_CountsWhatWasAsked(t *testing.T) {
	s := newStore("x")
	watching(t, time.Minute, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/x")
		_, _, err := r.sources["p"].Get(r.t.Context(), "x", "")
		assert.NilError(r.t, err)
		s.breaks(&provider.Throttled{})
		_, err = r.sources["p"].Version(r.t.Context(), "x")
		assert.ErrorContains(r.t, err, "fewer calls")
		s.breaks(provider.ErrNotFound)
		_, err = r.sources["p"].Version(r.t.Context(), "x")
		assert.ErrorIs(r.t, err, provider.ErrNotFound)
		st := r.Status()[0]
		assert.DeepEqual(r.t, st.Calls, watch.Calls{
			Version: 3, Value: 1,
			Answers: map[string]uint64{"ok": 2, "error": 1, "not_found": 1}, Failures: map[string]uint64{"throttled": 1},
		})
		assert.NilError(r.t, st.Err, "that it has no such secret says nothing against the store")
		assert.Equal(r.t, st.Shortest, time.Minute)
	})
}

// The circuit of a store that failed as long as somebody needed it, and what was asked for
// that nobody needs.
func TestUse_OfNothingForgetsWhatTheStoreDidAndAsksNothing(t *testing.T) {
	s := newStore("a")
	watching(t, 10*time.Second, map[string]*store{"p": s}, func(r *rig) {
		r.desired("p/a")
		s.breaks(errRefused)
		time.Sleep(time.Minute)
		assert.Assert(r.t, r.Status()[0].Open)
		r.Use(nil)
		st := r.Status()[0]
		assert.Assert(r.t, !st.Open && st.Err == nil, "%+v", st)
		r.Invalidate(secret.ID{Provider: "p", Path: "typo"})
		assert.Equal(r.t, len(r.Secrets()), 0)
	})
}

func TestSecrets_TellsWhatIsKnownOfEach(t *testing.T) {
	const interval = 10 * time.Second
	s := newStore("a", "b")
	watching(t, interval, map[string]*store{"p": s}, func(r *rig) {
		began := time.Now()
		r.desired("p/a", "p/b")
		time.Sleep(3 * interval)
		s.set("a")
		time.Sleep(2 * interval)
		changed := time.Now()
		rows := r.Secrets()
		assert.Equal(r.t, len(rows), 2)
		a, b := rows[0], rows[1]
		assert.Equal(r.t, a.ID.Path, "a")
		assert.Equal(r.t, a.Version, secret.Version("2"))
		assert.Assert(r.t, a.Since.After(began.Add(3*interval)) && a.Since.Before(changed), "%s", a.Since)
		assert.Assert(r.t, b.Since.Sub(began) < time.Second, "%s", b.Since)
		for _, k := range rows {
			assert.Assert(r.t, changed.Sub(k.Checked) <= interval && k.Next.After(changed.Add(-time.Second)) && !k.Next.After(changed.Add(interval)), "%+v", k)
			assert.NilError(r.t, k.Err)
		}
		s.breaks(errRefused)
		time.Sleep(2 * interval)
		// One may have opened the circuit before the other's turn.
		assert.Assert(r.t, slices.ContainsFunc(r.Secrets(), func(k watch.Known) bool { return k.Err != nil }))
	})
}

// odd is a store whose versions cannot be shown.
type odd struct{}

func (odd) Version(context.Context, string) (secret.Version, error) { return "canary\x1b[31m", nil }
func (odd) Get(context.Context, string, secret.Version) (secret.Value, secret.Version, error) {
	return secret.NewValue([]byte("canary")), "canary\x1b[31m", nil
}

func TestSource_AVersionThatCannotBeShownIsRefused(t *testing.T) {
	s := &watch.Source{Provider: odd{}, Name: "odd", Attempts: 1, Log: slog.New(slog.DiscardHandler)}
	v, err := s.Version(t.Context(), "x")
	assert.ErrorContains(t, err, "provider odd: x: the answer cannot be understood: its version has a character")
	assert.Equal(t, v, secret.Version(""))
	value, v, err := s.Get(t.Context(), "x", "")
	assert.ErrorIs(t, err, provider.ErrMalformed)
	assert.Equal(t, v, secret.Version(""))
	assert.Equal(t, value.Len(), 0)
}
