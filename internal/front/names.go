package front

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	lookupEvery   = 250 * time.Millisecond
	lookupTimeout = 100 * time.Millisecond
	firstRetry    = 20 * time.Millisecond // doubles up to grace
	grace         = time.Second
	recently      = 2 * lookupEvery
)

// errSilent says that nobody answers for names at all: the engine is down or has
// no time. Nothing has moved then, because only the engine moves containers.
var errSilent = errors.New("no name server answers")

// lookup finds the addresses of a container name. An error means that it has
// none now, unless it wraps errSilent: then nothing is known.
type lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// standing is what is known about one name.
type standing struct {
	addrs   []netip.Addr // sorted; of the last lookup that found any
	found   time.Time    // when that began
	silence time.Time    // start of the first lookup without an answer; zero: it answers
	tries   int          // lookups since silence began
}

// names remembers where each name in use was last found, and for how long it
// has not been.
type names struct {
	find lookup
	now  func() time.Time
	all  map[string]*standing
}

func newNames(find lookup) *names {
	return &names{find: find, now: time.Now, all: map[string]*standing{}}
}

// refresh looks up every wanted name at once, and gives up without a conclusion
// when interrupted, which it reports. It takes at most twice lookupTimeout.
func (n *names) refresh(ctx context.Context, wanted []string, interrupt <-chan struct{}) (interrupted bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	begin := n.now()
	found := make([][]netip.Addr, len(wanted))
	unknown := make([]bool, len(wanted))
	var wg sync.WaitGroup
	for i, name := range wanted {
		wg.Go(func() {
			addrs, err := n.find(ctx, name)
			if err == nil {
				found[i] = addrs
			}
			unknown[i] = errors.Is(err, errSilent)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-interrupt:
		cancel()
		<-done
		interrupted = true
	}
	for i, name := range wanted {
		if len(found[i]) > 0 || !interrupted && !unknown[i] {
			n.record(name, found[i], begin)
		}
	}
	return interrupted
}

func (n *names) record(name string, addrs []netip.Addr, begin time.Time) {
	s := n.all[name]
	if s == nil {
		s = &standing{}
		n.all[name] = s
	}
	if len(addrs) > 0 {
		slices.SortFunc(addrs, netip.Addr.Compare)
		*s = standing{addrs: addrs, found: begin}
		return
	}
	if s.silence.IsZero() {
		s.silence, s.tries = begin, 0
	}
	s.tries++
	if !n.inGrace(s) {
		s.addrs = nil
	}
}

func (n *names) inGrace(s *standing) bool {
	return !s.silence.IsZero() && n.now().Sub(s.silence) < grace
}

// addrs returns where a name is, including one that only just fell silent.
func (n *names) addrs(name string) []netip.Addr {
	s := n.all[name]
	if s == nil || !s.silence.IsZero() && !n.inGrace(s) {
		return nil
	}
	return s.addrs
}

// fresh says that a name was found a moment ago, where it still is as far as anybody knows.
func (n *names) fresh(name string) bool {
	s := n.all[name]
	return s != nil && s.silence.IsZero() && n.now().Sub(s.found) < recently
}

// pending says that a name has no address yet but may still get one in time.
func (n *names) pending(name string) bool {
	s := n.all[name]
	return s == nil || len(s.addrs) == 0 && n.inGrace(s)
}

// wait is the time until the next lookup: short while a name is silent and in
// its grace, never past the end of one.
func (n *names) wait() time.Duration {
	wait := lookupEvery
	for _, s := range n.all {
		if n.inGrace(s) {
			left := grace - n.now().Sub(s.silence)
			wait = min(wait, firstRetry<<min(s.tries-1, 8), left)
		}
	}
	return wait
}

// keep forgets every name but these.
func (n *names) keep(wanted ...[]string) {
	for name := range n.all {
		if !slices.ContainsFunc(wanted, func(w []string) bool { return slices.Contains(w, name) }) {
			delete(n.all, name)
		}
	}
}
