package address_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"
)

// withBoth is a lab where A and B can be found by name.
func withBoth(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.dns.set("app-a", v4(hostA))
	l.dns.set("app-b", v4(hostB))
	return l
}

func TestFront_SwitchUnderLoadLosesNothing(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	old, err := l.dial("tcp", v4(frontHost))
	assert.NilError(t, err)
	defer func() { _ = old.Close() }()
	assertAnsweredBy(t, old.RemoteAddr().String(), "a", func() (string, error) { return ask(old) })

	load := startLoad(l)
	load.waitFor(t, "a", 50)
	for range 10 {
		l.order(pid, "app-b")
		load.waitFor(t, "b", 20)
		l.order(pid, "app-a")
		load.waitFor(t, "a", 20)
	}
	l.order(pid, "app-b")
	load.waitFor(t, "b", 50)
	assertAnsweredBy(t, "the connection from before", "a", func() (string, error) { return ask(old) })
	total, failures := load.stop()
	assert.Assert(t, len(failures) == 0, "%d of %d failed, the first with %v", len(failures), total, failures)
	t.Logf("%d connections over 21 switches, none failed", total)

	assertEstablished(t, pid, hostA, 1)
	assert.NilError(t, old.Close())
	assertEstablished(t, pid, hostA, 0)
}

func TestFront_NewConnectionsFollowTheSwitchAtOnce(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	for range 5 {
		for target, name := range map[string]string{"app-a": "a", "app-b": "b"} {
			l.order(pid, target)
			for range 5 {
				assertAnsweredBy(t, "a new connection", name, l.who)
			}
		}
	}
}

func TestFront_SwitchTakesEffectInMilliseconds(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	var took []time.Duration
	for i := range 40 {
		// Traffic in between, because the kernel takes some ten milliseconds to
		// throw the last transaction away and makes the next one wait for it.
		for range 20 {
			_, err := l.who()
			assert.NilError(t, err)
		}
		generation, err := l.fronts.Switch(key, []string{[]string{"app-b", "app-a"}[i%2]})
		assert.NilError(t, err)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		assert.NilError(t, address.WaitApplied(ctx, pid, generation))
		cancel()
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("from the rename to the kernel, as the agent sees it: median %v, worst %v", median, took[len(took)-1])
	// Well below the 250 ms of a cycle: it was the rename that woke it.
	assert.Assert(t, median < 50*time.Millisecond, "median %v", median)
}

func TestFront_MovesUDPFlowsAtTheSwitch(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	c, err := l.dial("udp", v4(frontHost))
	assert.NilError(t, err)
	defer func() { _ = c.Close() }()
	assertAnsweredBy(t, "the flow", "a", func() (string, error) { return ask(c) })
	l.order(pid, "app-b")
	eventually(t, "the same flow", func() error {
		if got, err := ask(c); got != "b" {
			return fmt.Errorf("answered by %q: %w", got, err)
		}
		return nil
	})
}

// The container that leaves has been asked, and takes its time.
func TestFront_LosesNoAnswerByUDPThatIsUnderWayAtTheSwitch(t *testing.T) {
	const port = "9100"
	l := withBoth(t)
	l.listenUDP("b", port, func(c net.PacketConn, from net.Addr) { _, _ = c.WriteTo([]byte("b"), from) })
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	l.listenUDP("a", port, func(c net.PacketConn, from net.Addr) {
		asked <- struct{}{}
		<-answer
		_, _ = c.WriteTo([]byte("a"), from)
	})
	pid := l.start()
	l.order(pid, "app-a")
	c, err := l.dialPort("udp", v4(frontHost), port)
	assert.NilError(t, err)
	defer func() { _ = c.Close() }()
	_, err = c.Write([]byte("?"))
	assert.NilError(t, err)
	<-asked
	l.order(pid, "app-b")
	l.order(pid, "app-b") // when this is in force, all is done that was to be done for the first
	close(answer)
	got := make([]byte, 8)
	assert.NilError(t, c.SetReadDeadline(time.Now().Add(2*time.Second)))
	size, err := c.Read(got)
	assert.NilError(t, err)
	assert.Equal(t, string(got[:size]), "a")
	assertAnsweredBy(t, "the next request from the same port", "b", func() (string, error) { return ask(c) })
}

// Clients by UDP are spread over the replicas. When one leaves, its clients get the answers
// that they are owed and then go to another; the clients of one that stays keep their flows.
func TestFront_AReplicaThatLeavesMovesItsOwnClientsByUDPAndLosesNoAnswer(t *testing.T) {
	for name, family := range map[string]func(int) netip.Addr{"IPv4": v4, "IPv6": v6} {
		t.Run(name, func(t *testing.T) { testReplicaLeaves(t, family) })
	}
}

func testReplicaLeaves(t *testing.T, family func(int) netip.Addr) {
	const port, clients = "9101", 40
	l := newLab(t)
	l.dns.set("app-a", family(hostA))
	l.dns.set("app-b", family(hostB))
	var hold atomic.Bool
	owed := make(chan func(), clients)
	for _, name := range []string{"a", "b"} {
		l.listenUDP(name, port, func(c net.PacketConn, from net.Addr) {
			// The address shows whether the front has begun another flow.
			answer := func() { _, _ = c.WriteTo([]byte(name+" "+from.String()), from) }
			if hold.Load() {
				owed <- answer
				return
			}
			answer()
		})
	}
	pid := l.start()
	l.order(pid, "app-a", "app-b")
	said := map[net.Conn]string{}
	for range clients {
		c, err := l.dialPort("udp", family(frontHost), port)
		assert.NilError(t, err)
		defer func() { _ = c.Close() }()
		said[c], err = ask(c)
		assert.NilError(t, err)
	}
	ofA := func(answer string) bool { return strings.HasPrefix(answer, "a ") }
	hold.Store(true)
	var waiting int
	for c, before := range said {
		if ofA(before) {
			waiting++
			_, err := c.Write([]byte("?"))
			assert.NilError(t, err)
		}
	}
	assert.Assert(t, waiting > 0 && waiting < clients, "%d of %d clients are with one of two", waiting, clients)
	eventually(t, "the requests are there", func() error {
		if len(owed) < waiting {
			return fmt.Errorf("%d of %d", len(owed), waiting)
		}
		return nil
	})
	hold.Store(false)
	l.order(pid, "app-b")
	l.order(pid, "app-b") // when this is in force, all is done that was to be done for the first
	for range waiting {
		(<-owed)()
	}
	for c, before := range said {
		if !ofA(before) {
			assertAnsweredBy(t, "a client of the one that stays", before, func() (string, error) { return ask(c) })
			continue
		}
		got := make([]byte, 64)
		assert.NilError(t, c.SetReadDeadline(time.Now().Add(2*time.Second)))
		size, err := c.Read(got)
		assert.NilError(t, err)
		assert.Equal(t, string(got[:size]), before)
		after, err := ask(c)
		assert.NilError(t, err)
		assert.Assert(t, !ofA(after), "the next request from the same port went to %s", after)
	}
}

func TestFront_EmptyMapRefusesAtOnceAndDoesNotFallBack(t *testing.T) {
	l := withBoth(t)
	pid := l.start("app-b")
	l.order(pid, "app-a")
	l.order(pid)
	for _, to := range []netip.Addr{v4(frontHost), v6(frontHost)} {
		begin := time.Now()
		_, err := l.dial("tcp", to)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED, "to %s", to)
		assert.Assert(t, time.Since(begin) < 100*time.Millisecond, "refused after %v", time.Since(begin))
	}
	udp, err := l.dial("udp", v4(frontHost))
	assert.NilError(t, err)
	defer func() { _ = udp.Close() }()
	_, err = ask(udp)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	generation, addrs, err := address.Applied(pid)
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(2))
	assert.Equal(t, len(addrs), 0)

	l.order(pid, "app-b")
	assertAnsweredBy(t, "after the refusal", "b", l.who)
}

func TestFront_RefusesEvenWhereSomethingListens(t *testing.T) {
	l := withBoth(t)
	l.serve("fr", "the front itself")
	pid := l.start()
	l.order(pid)
	_, err := l.dial("tcp", v4(frontHost))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestFront_FindsAnApplicationThatMovedWithNoAgent(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	assertAnsweredBy(t, "before", "a", l.who)
	l.ip("a", fmt.Sprintf("addr del %s/24 dev eth0", v4(hostA)), fmt.Sprintf("addr add %s/24 dev eth0", v4(hostMoved)))
	l.dns.set("app-a", v4(hostMoved))
	l.eventuallyAnswers("a")
	_, addrs, err := address.Applied(pid)
	assert.NilError(t, err)
	assert.DeepEqual(t, addrs, []netip.Addr{v4(hostMoved)}, cmpopts.EquateComparable(netip.Addr{}))
}

func TestFront_NeverKeepsTheAddressOfANameThatIsGone(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	l.dns.set("app-a")
	gone := time.Now()
	eventually(t, "the address is dropped", func() error {
		if _, err := l.who(); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("still served: %w", err)
		}
		return nil
	})
	// One cycle until it is noticed, the grace, and room for a busy machine.
	assert.Assert(t, time.Since(gone) < 3*time.Second, "dropped after %v", time.Since(gone))
	l.dns.set("app-a", v4(hostA))
	l.eventuallyAnswers("a")
}

func TestFront_AppliesTheMapByItselfAfterARestart(t *testing.T) {
	l := withBoth(t)
	pid := l.start("app-a")
	l.order(pid, "app-b")
	l.kill()
	assertAnsweredBy(t, "with the front dead", "b", l.who)

	generation, err := l.fronts.Switch(key, []string{"app-a"})
	assert.NilError(t, err)
	pid = l.start("app-b")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	assert.NilError(t, address.WaitApplied(ctx, pid, generation))
	assertAnsweredBy(t, "after its restart", "a", l.who)
	applied := func() int { return strings.Count(l.log.String(), `"msg":"applied"`) }
	eventually(t, "it says what it applied", func() error { // after the kernel has it
		if applied() == 0 {
			return errors.New("nothing yet")
		}
		return nil
	})
	assert.Assert(t, applied() == 1, "it went through another state first:\n%s", l.log)
}

func TestFront_UsesItsFallbackNamesWithoutAMap(t *testing.T) {
	l := withBoth(t)
	pid := l.start("nobody", "app-a")
	l.eventuallyAnswers("a")
	generation, addrs, err := address.Applied(pid)
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(0))
	assert.DeepEqual(t, addrs, []netip.Addr{v4(hostA)}, cmpopts.EquateComparable(netip.Addr{}))
}

func TestFront_UsesItsFallbackNamesWhenNoTargetIsFound(t *testing.T) {
	l := withBoth(t)
	pid := l.start("app-a")
	l.order(pid, "app-b")
	generation, err := l.fronts.Switch(key, []string{"4f1c2ab09d3e"})
	assert.NilError(t, err)
	l.eventuallyAnswers("a")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = address.WaitApplied(ctx, pid, generation)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "generation 0 is in force")

	l.dns.set("4f1c2ab09d3e", v4(hostB))
	l.eventuallyAnswers("b")
}

func TestFront_BalancesTargets(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a", "app-b")
	count := map[string]int{}
	for range 20 {
		name, err := l.who()
		assert.NilError(t, err)
		count[name]++
	}
	assert.DeepEqual(t, count, map[string]int{"a": 10, "b": 10})
}

func TestFront_SendsNoRedirects(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	for range 3 {
		_, err := l.who()
		assert.NilError(t, err)
	}
	assert.Equal(t, sentRedirects(t, pid), "0")
}

// sentRedirects is the kernel's count of ICMP redirects in the network of a process.
func sentRedirects(t *testing.T, pid int) string {
	t.Helper()
	counts, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", pid))
	assert.NilError(t, err)
	var names []string
	for line := range strings.Lines(string(counts)) {
		fields := strings.Fields(line)
		if fields[0] != "Icmp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		return fields[slices.Index(names, "OutRedirects")]
	}
	t.Fatalf("no ICMP in %s", counts)
	return ""
}

func TestFront_ForwardsIPv6(t *testing.T) {
	l := newLab(t)
	l.dns.set("app-a", v4(hostA), v6(hostA))
	l.dns.set("app-b", v6(hostB))
	pid := l.start()
	l.order(pid, "app-a")
	assertAnsweredBy(t, "over IPv6", "a", func() (string, error) { return l.whoAt(v6(frontHost)) })
	assertAnsweredBy(t, "over IPv4", "a", l.who)
	l.order(pid, "app-b")
	assertAnsweredBy(t, "over IPv6", "b", func() (string, error) { return l.whoAt(v6(frontHost)) })
	_, err := l.who()
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, "there is no IPv4 target left")
}

func TestFront_ForgetsHandshakesWithAContainerThatIsGone(t *testing.T) {
	l := withBoth(t)
	l.dns.set("app-a", v4(99)) // nobody is there
	pid := l.start()
	l.order(pid, "app-a")
	answer := make(chan string, 1)
	go func() { name, _ := l.who(); answer <- name }()
	// The first SYN goes nowhere; the client sends the next one after a second.
	eventually(t, "the client waits", func() error { return l.halfOpen() })
	l.order(pid, "app-b")
	assert.Equal(t, <-answer, "b")
}

func TestFront_EndsAtOnceOnSIGTERM(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	begin := time.Now()
	assert.NilError(t, l.front.Process.Signal(syscall.SIGTERM))
	assert.NilError(t, l.front.Wait(), "it must exit with 0")
	assert.Assert(t, time.Since(begin) < time.Second, "after %v", time.Since(begin))
	assertAnsweredBy(t, "what it left in the kernel", "a", l.who)
}

func assertAnsweredBy(t *testing.T, what, want string, who func() (string, error)) {
	t.Helper()
	got, err := who()
	assert.NilError(t, err, what)
	assert.Equal(t, got, want, what)
}

func assertEstablished(t *testing.T, pid, host, want int) {
	t.Helper()
	eventually(t, "connections on the old container", func() error {
		n, err := address.Established(pid, v4(host))
		if err == nil && n != want {
			err = fmt.Errorf("%d, want %d", n, want)
		}
		return err
	})
}

// load opens short connections one after the other, from two clients.
type load struct {
	done   chan struct{}
	wg     sync.WaitGroup
	total  atomic.Int64
	mu     sync.Mutex
	seen   map[string]int
	failed []error
}

func startLoad(l *lab) *load {
	w := &load{done: make(chan struct{}), seen: map[string]int{}}
	for range 2 {
		w.wg.Go(func() {
			for {
				select {
				case <-w.done:
					return
				default:
				}
				name, err := l.who()
				w.total.Add(1)
				w.mu.Lock()
				w.seen[name]++
				if err != nil {
					w.failed = append(w.failed, err)
				}
				w.mu.Unlock()
			}
		})
	}
	return w
}

// waitFor waits until n more answers came from name.
func (w *load) waitFor(t *testing.T, name string, n int) {
	t.Helper()
	count := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.seen[name] }
	start := count()
	eventually(t, "answers from "+name, func() error {
		if got := count() - start; got < n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}

func (w *load) stop() (total int64, failed []error) {
	close(w.done)
	w.wg.Wait()
	return w.total.Load(), w.failed
}
