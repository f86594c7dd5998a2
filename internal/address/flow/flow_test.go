package flow

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

var (
	client = netip.MustParseAddr("10.1.0.9")
	host   = netip.MustParseAddr("10.1.0.1")
	here   = netip.MustParseAddr("172.18.0.3")
	there  = netip.MustParseAddr("172.18.0.4")
)

// tracked fills the connection tracking of a namespace of its own.
func tracked(t *testing.T, flows ...conntrack.Flow) *Tracker {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // and the thread ends with the test
	assert.NilError(t, unix.Unshare(unix.CLONE_NEWNET))
	c, err := conntrack.Dial(nil)
	assert.NilError(t, err)
	defer func() { assert.NilError(t, c.Close()) }()
	for _, f := range flows {
		assert.NilError(t, c.Create(f))
	}
	tracker, err := Open(nil)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, tracker.Close()) })
	return tracker
}

func flowTo(proto uint8, port uint16, to netip.Addr, tcpState uint8, status conntrack.Status) conntrack.Flow {
	f := conntrack.NewFlow(proto, status|conntrack.StatusConfirmed, client, host, port, 80, 120, 0)
	f.TupleReply.IP = conntrack.IPTuple{SourceAddress: to, DestinationAddress: client}
	if proto == unix.IPPROTO_TCP {
		f.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: tcpState}
	}
	return f
}

const (
	synSent, established, timeWait = 1, 3, 7

	seen = conntrack.StatusSeenReply | conntrack.StatusAssured
)

// What is forwarded cannot be made up here; the tests of package address have it.
func TestList_TheKernelChooses(t *testing.T) {
	tracker := tracked(t,
		flowTo(unix.IPPROTO_TCP, 1, here, established, seen),
		flowTo(unix.IPPROTO_TCP, 2, here, synSent, 0),
		flowTo(unix.IPPROTO_TCP, 3, there, timeWait, seen),
		flowTo(unix.IPPROTO_UDP, 4, here, 0, seen),
		flowTo(unix.IPPROTO_UDP, 5, there, 0, 0),
	)
	for name, c := range map[string]struct {
		question question
		want     []uint16
	}{
		"all":                 {question{}, []uint16{1, 2, 3, 4, 5}},
		"UDP":                 {byUDP(netfilter.ProtoIPv4), []uint16{4, 5}},
		"UDP over IPv6":       {byUDP(netfilter.ProtoIPv6), nil},
		"without an answer":   {unanswered(), []uint16{2, 5}},
		"to an address":       {answeredBy(here), []uint16{1, 2, 4}},
		"to nobody's address": {answeredBy(netip.MustParseAddr("fd00::1")), nil},
	} {
		flows, err := tracker.list(c.question)
		assert.NilError(t, err, name)
		var ports []uint16
		for _, f := range flows {
			ports = append(ports, f.TupleOrig.Proto.SourcePort)
		}
		slices.Sort(ports)
		assert.DeepEqual(t, ports, c.want)
	}
}

func TestForget_DeletesWhatIsStuckAndUnsettled(t *testing.T) {
	all := []conntrack.Flow{
		flowTo(unix.IPPROTO_UDP, 1, here, 0, 0),
		flowTo(unix.IPPROTO_UDP, 2, here, 0, seen),
		flowTo(unix.IPPROTO_UDP, 3, there, 0, seen),
		flowTo(unix.IPPROTO_TCP, 4, here, synSent, 0),
		flowTo(unix.IPPROTO_TCP, 5, here, established, seen),
	}
	for _, c := range []struct {
		halfOpen bool
		left     []uint16 // by the client's port
	}{{false, []uint16{3, 4, 5}}, {true, []uint16{3, 5}}} {
		done := make(chan struct{})
		go func() { // a thread for each
			defer close(done)
			tracker := tracked(t, all...)
			stuck := func(f conntrack.Flow) bool { return f.TupleReply.IP.SourceAddress == here }
			any, err := tracker.Forget(c.halfOpen, stuck)
			assert.Check(t, err == nil && any, "%v", err)
			any, err = tracker.Forget(c.halfOpen, stuck)
			assert.Check(t, err == nil && !any, "%v", err)
			for _, f := range all {
				_, err := get(f)
				port := f.TupleOrig.Proto.SourcePort
				assert.Check(t, (err == nil) == slices.Contains(c.left, port), "port %d, half open %t: %v", port, c.halfOpen, err)
			}
		}()
		<-done
	}
}

func get(f conntrack.Flow) (conntrack.Flow, error) {
	c, err := conntrack.Dial(nil)
	if err != nil {
		return f, err
	}
	defer func() { _ = c.Close() }()
	return c.Get(f)
}
