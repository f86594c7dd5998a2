package front

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ti-mo/conntrack"
	"gotest.tools/v3/assert"
)

var (
	addrA = netip.MustParseAddr("172.18.0.3")
	addrB = netip.MustParseAddr("172.18.0.4")
	addrF = netip.MustParseAddr("172.18.0.5")
)

// world is a network with its names, and the kernel that a front writes to.
type world struct {
	where   map[string]netip.Addr
	broken  error
	silent  bool          // the engine is down
	slow    time.Duration // what it takes to answer
	applied []state
	at      []time.Time
	sweeps  []bool
}

func (w *world) Prepare() error { return nil }

func (w *world) Apply(generation uint64, targets []frontmap.Target) error {
	if w.broken != nil {
		return w.broken
	}
	w.applied, w.at = append(w.applied, state{generation, targets}), append(w.at, time.Now())
	return nil
}

func (w *world) Sweep(_ []frontmap.Target, halfOpen bool) error {
	w.sweeps = append(w.sweeps, halfOpen)
	return nil
}

func (w *world) find(_ context.Context, name string) ([]netip.Addr, error) {
	time.Sleep(w.slow)
	if w.silent {
		return nil, errSilent
	}
	if a, ok := w.where[name]; ok {
		return []netip.Addr{a}, nil
	}
	return nil, errors.New("no such host")
}

func (w *world) last() (uint64, []netip.Addr) {
	s := w.applied[len(w.applied)-1]
	var addrs []netip.Addr
	for _, t := range s.targets {
		addrs = append(addrs, t.Addr)
	}
	return s.generation, addrs
}

type rig struct {
	*testing.T
	*world
	front *Front
	dir   string
}

func newRig(t *testing.T, fallback ...string) *rig {
	w := &world{where: map[string]netip.Addr{"a": addrA, "b": addrB, "f": addrF}}
	cfg := Config{Dir: t.TempDir(), Fallback: fallback, Log: slog.New(slog.DiscardHandler)}
	return &rig{t, w, assemble(cfg, w, w.find), cfg.Dir}
}

func (r *rig) order(generation uint64, targets ...string) {
	r.Helper()
	assert.NilError(r, frontmap.Store(r.dir, frontmap.Map{Format: frontmap.Format, Generation: generation, Targets: targets}))
}

// run lets cycles follow each other for a time of the bubble.
func (r *rig) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(r.front.cycle(r.Context()), time.Until(end)))
	}
}

func (r *rig) inForce(generation uint64, addrs ...netip.Addr) {
	r.Helper()
	g, got := r.last()
	assert.Equal(r, g, generation)
	assert.DeepEqual(r, got, addrs, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}))
}

func bubble(t *testing.T, fallback []string, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newRig(t, fallback...)) })
}

func TestFront_WritesOncePerChange(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "b", "a")
		r.run(2 * time.Second)
		r.inForce(1, addrA, addrB)
		assert.Equal(r, len(r.applied), 1)
		r.order(2, "b")
		r.run(time.Millisecond)
		r.inForce(2, addrB)
	})
}

func TestFront_BridgesTheBlipOfARename(t *testing.T) {
	bubble(t, []string{"f"}, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		delete(r.where, "a")
		r.run(grace - time.Millisecond)
		r.where["a"] = addrA
		r.run(time.Second)
		assert.Equal(r, len(r.applied), 1, "%v", r.applied)
	})
}

func TestFront_DropsTheAddressWhenTheGraceIsOver(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		delete(r.where, "a")
		r.run(lookupEvery + grace + time.Millisecond)
		r.inForce(0)
	})
}

func TestFront_KeepsEverythingWhileTheEngineIsDown(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		r.silent = true
		r.run(time.Hour)
		r.inForce(1, addrA)
		r.silent = false
		delete(r.where, "a")
		r.run(lookupEvery + grace + time.Millisecond)
		r.inForce(0)
	})
}

func TestFront_FallsBackOnlyWhenNothingOfTheMapIsFound(t *testing.T) {
	bubble(t, []string{"f"}, func(r *rig) {
		r.order(1, "a", "missing")
		r.run(time.Second)
		r.inForce(1, addrA)
		delete(r.where, "a")
		r.run(lookupEvery + grace + time.Millisecond)
		r.inForce(0, addrF)
		r.where["missing"] = addrB
		r.run(time.Second)
		r.inForce(1, addrB)
	})
}

func TestFront_KeepsWhatIsInForceWhileANewTargetAppears(t *testing.T) {
	bubble(t, []string{"f"}, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		r.order(2, "new")
		r.run(100 * time.Millisecond)
		r.inForce(1, addrA)
		r.where["new"] = addrB
		r.run(grace)
		r.inForce(2, addrB)
		assert.Equal(r, len(r.applied), 2)
	})
}

func TestFront_DoesNotWaitOnAnAddressThatLeft(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		r.where["a"] = addrB // another container may have addrA now
		r.order(2, "new", "a")
		r.run(time.Millisecond)
		r.inForce(2, addrB)
	})
}

func TestFront_EmptyOrderNeverFallsBack(t *testing.T) {
	bubble(t, []string{"f"}, func(r *rig) {
		r.order(3)
		r.run(time.Second)
		r.inForce(3)
	})
}

func TestFront_RetriesWhatTheKernelRefused(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.broken = errors.New("no")
		r.order(1, "a")
		r.run(time.Second)
		assert.Equal(r, len(r.applied), 0)
		r.broken = nil
		r.run(time.Second)
		r.inForce(1, addrA)
	})
}

func TestFront_SweepsAtTheChangeAndOnceMoreForHandshakes(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		r.run(5 * time.Second)
		assert.DeepEqual(r, r.sweeps, []bool{false, true})
	})
}

func TestFront_ChangesNothingWhileItIsBeingStopped(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		r.run(time.Millisecond)
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		r.where = nil
		for range 20 {
			r.front.cycle(ctx)
			time.Sleep(lookupEvery)
		}
		assert.Equal(r, len(r.applied), 1)
	})
}

func TestNew_RefusesAnAddressAsFallback(t *testing.T) {
	_, err := New(Config{Fallback: []string{"10.0.0.1"}})
	assert.ErrorIs(t, err, frontmap.ErrInvalid)
}

func TestNeighbours_KeepsOnlyOthersOnANetworkOfTheFront(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("172.18.0.2/16"), netip.MustParsePrefix("127.0.0.1/8")}
	got := neighbours([]netip.Addr{
		netip.MustParseAddr("172.18.0.2"), // the front itself
		netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("203.0.113.9"), // what a wildcard in some upstream DNS says
		netip.MustParseAddr("::ffff:172.18.0.3"),
	}, local)
	assert.DeepEqual(t, got, []netip.Addr{addrA}, cmpopts.EquateComparable(netip.Addr{}))
}

func TestStuck_ForgetsOnlyFlowsFromOutsideToContainersThatLeft(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("172.18.0.2/16")}
	self, client, dns := local[0].Addr(), netip.MustParseAddr("172.18.0.9"), netip.MustParseAddr("127.0.0.11")
	flow := func(from, to, answers netip.Addr) (f conntrack.Flow) {
		f.TupleOrig.IP = conntrack.IPTuple{SourceAddress: from, DestinationAddress: to}
		f.TupleReply.IP = conntrack.IPTuple{SourceAddress: answers, DestinationAddress: self}
		return f
	}
	targets := []frontmap.Target{{Name: "b", Addr: addrB}}
	for name, c := range map[string]struct {
		flow conntrack.Flow
		want bool
	}{
		"to one that left":             {flow(client, self, addrA), true},
		"to the front itself":          {flow(client, self, self), true},
		"to a target":                  {flow(client, self, addrB), false},
		"the front's own":              {flow(self, addrA, addrA), false},
		"Docker's DNS":                 {flow(dns, dns, dns), false},
		"what is only passing through": {flow(client, addrA, addrA), false},
	} {
		assert.Check(t, stuck(c.flow, local, targets) == c.want, name)
	}
}

func TestFront_ASwitchThatWasAnnouncedWaitsForNoNameServer(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		assert.NilError(r, frontmap.Announce(r.dir, frontmap.Map{Format: frontmap.Format, Generation: 2, Targets: []string{"b"}}))
		r.run(time.Second)
		r.inForce(1, addrA)
		r.slow = 50 * time.Millisecond
		assert.NilError(r, frontmap.Advance(r.dir))
		begin := time.Now()
		r.front.cycle(r.Context())
		r.inForce(2, addrB)
		assert.Equal(r, r.at[len(r.at)-1].Sub(begin), time.Duration(0))
	})
}

func TestFront_AnAnnouncedTargetThatMovedMeanwhileIsFoundAtOnce(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		assert.NilError(r, frontmap.Announce(r.dir, frontmap.Map{Format: frontmap.Format, Generation: 2, Targets: []string{"b"}}))
		r.run(time.Second)
		r.where["b"] = addrF
		assert.NilError(r, frontmap.Advance(r.dir))
		r.front.cycle(r.Context())
		r.inForce(2, addrF)
	})
}

func TestFront_AnAnnouncedTargetThatNobodyFindsHoldsUpNothing(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.order(1, "a")
		assert.NilError(r, frontmap.Announce(r.dir, frontmap.Map{Format: frontmap.Format, Generation: 2, Targets: []string{"nowhere"}}))
		r.run(2 * time.Second)
		r.inForce(1, addrA)
		r.order(2, "b")
		r.run(time.Second)
		r.inForce(2, addrB)
	})
}
