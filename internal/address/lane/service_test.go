package lane

import (
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ti-mo/conntrack"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

var (
	host    = netip.MustParseAddr("192.0.2.1")
	client  = netip.MustParseAddr("198.51.100.7")
	app     = netip.MustParseAddr("172.18.0.3")
	other   = netip.MustParseAddr("172.18.0.4")
	front   = netip.MustParseAddr("172.18.0.2")
	app6    = netip.MustParseAddr("fd00::3")
	any4    = netip.IPv4Unspecified()
	any6    = netip.IPv6Unspecified()
	both    = families{v4: true, v6: true}
	service = Service{Front: 1, Ports: []Port{{any4, 8080, TCP, 80}, {any6, 8080, TCP, 80}, {host, 53, UDP, 5353}}, Targets: []Target{{Pid: 7, Addrs: []netip.Addr{app, app6}}}}
)

var compare = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.AllowUnexported(route{}, late{}),
}

func of(s Service) map[string]Service { return map[string]Service{"shop_web": s} }

func TestRoutes_AreAsNarrowAsThePublishedPorts(t *testing.T) {
	got := routes(of(service), both)
	assert.Equal(t, len(got), 3)
	assert.DeepEqual(t, got[0].to, []netip.Addr{app}, compare...)
	assert.DeepEqual(t, got[1].to, []netip.Addr{app6}, compare...)
	assert.DeepEqual(t, got[2], route{Port{host, 53, UDP, 5353}, []netip.Addr{app}, nil}, compare...)
}

func TestRoutes_LeaveOutWhatTheLaneMayNotTake(t *testing.T) {
	for name, port := range map[string]Port{
		"loopback": {netip.MustParseAddr("127.0.0.1"), 8080, TCP, 80},
		"SCTP":     {any4, 8080, 132, 80},
	} {
		s := service
		s.Ports = []Port{port}
		assert.Equal(t, len(routes(of(s), both)), 0, name)
	}
	s := service
	s.Targets = []Target{{Pid: 7, Addrs: []netip.Addr{app}}}
	assert.Equal(t, len(routes(of(s), both)), 2, "no address of the other family")
	assert.Equal(t, len(routes(of(service), families{v4: true})), 2, "nobody else translates IPv6")
}

func flowOf(proto uint8, from netip.Addr, fromPort uint16, to netip.Addr, toPort uint16, answers netip.Addr, answersTo netip.Addr, answersPort uint16, nat conntrack.Status) conntrack.Flow {
	f := conntrack.NewFlow(proto, 0, from, to, fromPort, toPort, 60, 0)
	f.TupleReply.IP.SourceAddress, f.TupleReply.IP.DestinationAddress, f.TupleReply.Proto.DestinationPort = answers, answersTo, answersPort
	f.Status = nat
	return f
}

func TestAstray_IsWhatJoinsThePortWithAnotherContainer(t *testing.T) {
	apart := flowOf(17, other, 5353, client, 4000, client, host, 53, conntrack.StatusSrcNAT)
	apart.Zone = zoneOf(7)
	r := route{Port{any4, 53, UDP, 5353}, []netip.Addr{app}, []netip.Addr{front}}
	for name, c := range map[string]struct {
		flow conntrack.Flow
		want bool
	}{
		"to the container":                {flowOf(17, client, 4000, host, 53, app, client, 4000, conntrack.StatusDstNAT), false},
		"to another one":                  {flowOf(17, client, 4000, host, 53, other, client, 4000, conntrack.StatusDstNAT), true},
		"to the front":                    {flowOf(17, client, 4000, host, 53, front, client, 4000, conntrack.StatusDstNAT), false},
		"another port":                    {flowOf(17, client, 4000, host, 54, other, client, 4000, conntrack.StatusDstNAT), false},
		"another protocol":                {flowOf(6, client, 4000, host, 53, other, client, 4000, conntrack.StatusDstNAT), false},
		"not forwarded":                   {flowOf(17, client, 4000, host, 53, host, client, 4000, 0), false},
		"a late answer of another one":    {flowOf(17, other, 5353, client, 4000, client, host, 53, conntrack.StatusSrcNAT), true},
		"a late answer, tracked apart":    {apart, false},
		"what the container itself began": {flowOf(17, app, 5353, client, 4000, client, host, 53, conntrack.StatusSrcNAT), false},
	} {
		assert.Equal(t, r.astray(c.flow), c.want, name)
	}
}

func TestLatecomers_AreTheUDPPortsOfWhatIsNoTargetAnyMore(t *testing.T) {
	now := service
	now.Targets = []Target{{Pid: 8, Addrs: []netip.Addr{other}}}
	assert.DeepEqual(t, latecomers(service, now), map[int][]late{7: {{app, service.Ports[2], 8}}}, compare...)
	assert.Equal(t, len(latecomers(service, service)), 0)
}

func TestSet_OfAFrontThatItDoesNotKnowOwesWhatTheAgentBeforeOwed(t *testing.T) {
	old := exec.Command("sleep", "60")
	assert.NilError(t, old.Start())
	t.Cleanup(func() { _ = old.Process.Kill(); _ = old.Wait() })
	serves := Target{Pid: os.Getpid(), Addrs: []netip.Addr{app}}
	leaves := Target{Pid: old.Process.Pid, Addrs: []netip.Addr{other}}

	l := New(slog.New(slog.DiscardHandler), "", func() bool { return true })
	s := Service{Front: os.Getpid(), Ports: service.Ports, Targets: []Target{serves}, Leaving: []Target{serves, leaves}}
	assert.Assert(t, !l.Knows("shop_web"))
	assert.NilError(t, l.Set("shop_web", s))
	assert.Assert(t, l.Knows("shop_web"))
	l.mu.Lock()
	defer l.mu.Unlock()
	assert.DeepEqual(t, l.late, map[int][]late{leaves.Pid: {{other, service.Ports[2], zoneOf(leaves.Pid)}}}, compare...)
}

func TestTarget_IsKnownBeforeItServesForAsLongAsItsProcessLives(t *testing.T) {
	next := exec.Command("sleep", "60")
	assert.NilError(t, next.Start())
	t.Cleanup(func() { _ = next.Process.Kill(); _ = next.Wait() })
	serves := Target{Name: "one", Pid: os.Getpid(), Addrs: []netip.Addr{app}}
	comes := Target{Name: "two", Pid: next.Process.Pid, Addrs: []netip.Addr{other}}

	l := New(slog.New(slog.DiscardHandler), "", func() bool { return true })
	known := func(name string) bool { _, ok := l.Target("shop_web", name); return ok }
	assert.NilError(t, l.Set("shop_web", Service{Front: os.Getpid(), Targets: []Target{serves}}))
	assert.NilError(t, l.Expect("shop_web", comes))
	assert.Assert(t, known("one") && known("two"))

	assert.NilError(t, next.Process.Kill())
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if known("two") {
			return poll.Continue("it is still known")
		}
		return poll.Success()
	})
	assert.Assert(t, known("one"))
}

func TestTarget_IsNotExpectedForEver(t *testing.T) {
	l := New(slog.New(slog.DiscardHandler), "", func() bool { return true })
	serves := Target{Name: "one", Pid: os.Getpid(), Addrs: []netip.Addr{app}}
	s := Service{Front: os.Getpid(), Targets: []Target{serves}}
	assert.NilError(t, l.Set("shop_web", s))
	assert.NilError(t, l.Expect("shop_web", Target{Name: "two", Pid: os.Getpid(), Addrs: []netip.Addr{other}}))
	assert.NilError(t, l.Set("shop_web", s))
	_, known := l.Target("shop_web", "two")
	assert.Assert(t, !known, "its rotation went back")
}
