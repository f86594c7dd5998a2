package front

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/address/flow"
	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/address/nftrule"
)

// netfilter is the kernel of the network namespace this process is in. It keeps
// its sockets: closing one that speaks to netfilter waits until the kernel has
// thrown away the last transaction, which takes some ten milliseconds.
type netfilter struct {
	rules *nftables.Conn
	flows *flow.Tracker

	families [2]family
	begun    bool
	zoned    bool // requests by UDP are looked up in the zones of the slots
}

// family is where its clients by UDP are led.
type family struct {
	nftrule.Family
	udp   slots
	zones *nftables.Set
}

func newNetfilter() *netfilter {
	return &netfilter{families: [2]family{{Family: nftrule.IPv4}, {Family: nftrule.IPv6}}}
}

// Apply puts the whole state in force in one transaction.
func (n *netfilter) Apply(generation uint64, targets []frontmap.Target) error {
	if !n.begun {
		// A kernel without zones: Sweep moves the flows, and an answer under way is lost.
		n.zoned = n.makeZones() == nil
		n.begun = true
	}
	for i := range n.families {
		f := &n.families[i]
		f.udp.follow(addresses(f.Family, targets))
	}
	return n.write(generation, targets)
}

// write leaves out what the kernel may not have: IPv6 where no target needs it, and the
// spreading of UDP over slots.
func (n *netfilter) write(generation uint64, targets []frontmap.Target) error {
	families := n.families[:]
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		families = families[:1]
	}
	wants6 := slices.ContainsFunc(targets, func(t frontmap.Target) bool { return t.Addr.Is6() })
	var first error
	for _, spread := range []bool{true, false} {
		for some := families; ; some = families[:1] {
			err := n.transact(some, spread, generation, targets)
			if err == nil {
				return nil
			}
			first = cmp.Or(first, err)
			if len(some) == 1 || wants6 {
				break
			}
		}
	}
	return first
}

func (n *netfilter) transact(families []family, spread bool, generation uint64, targets []frontmap.Target) (err error) {
	if n.rules == nil {
		if n.rules, err = nftables.New(nftables.AsLasting()); err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
	}
	for i := range families {
		f := &families[i]
		udp := &f.udp
		if !spread {
			udp = nil
		}
		err = errors.Join(err, write(n.rules, f.Family, generation, targets, udp))
		if spread && n.zoned {
			n.rules.FlushSet(f.zones)
			err = errors.Join(err, n.rules.SetAddElements(f.zones, udp.elements(zoneOf)))
		}
	}
	if err := errors.Join(err, n.rules.Flush()); err != nil {
		return fmt.Errorf("write table %s: %w", frontmap.Table, errors.Join(err, n.closeRules()))
	}
	return nil
}

// closeRules is for a socket with unread answers in it.
func (n *netfilter) closeRules() error {
	err := n.rules.CloseLasting()
	n.rules = nil
	return err
}

// Sweep forgets the flows that NAT would otherwise keep on an address that is
// not in targets: UDP ones and, on request, TCP handshakes without an answer.
func (n *netfilter) Sweep(targets []frontmap.Target, halfOpen bool) error {
	local, err := localPrefixes()
	if err != nil {
		return err
	}
	if n.flows == nil {
		if n.flows, err = flow.Open(nil); err != nil {
			return err
		}
	}
	_, err = n.flows.Forget(halfOpen, func(f conntrack.Flow) bool { return !n.waitsForAnswers(f) && stuck(f, local, targets) })
	if err != nil {
		err = errors.Join(err, n.flows.Close())
		n.flows = nil
	}
	return err
}

// waitsForAnswers says that no request comes to a flow any more.
func (n *netfilter) waitsForAnswers(f conntrack.Flow) bool {
	if !n.zoned || f.TupleOrig.Proto.Protocol != unix.IPPROTO_UDP {
		return false
	}
	return !slices.ContainsFunc(n.families[:], func(of family) bool {
		return of.Has(f.TupleOrig.IP.SourceAddress) && of.udp.uses(f.TupleOrig.Zone)
	})
}

// stuck says whether a flow came to the front from outside and is answered by
// something that is not a target, be it the front itself.
func stuck(f conntrack.Flow, local []netip.Prefix, targets []frontmap.Target) bool {
	own := func(a netip.Addr) bool {
		return a.IsLoopback() || slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	from, to := f.TupleOrig.IP.SourceAddress, f.TupleOrig.IP.DestinationAddress
	if own(from) || to.IsLoopback() || !own(to) {
		return false
	}
	answers := f.TupleReply.IP.SourceAddress
	return !slices.ContainsFunc(targets, func(t frontmap.Target) bool { return t.Addr == answers })
}

// Prepare turns forwarding on and redirects off. In a container /proc/sys is
// read-only and the container's own sysctls must have said so already; only
// forwarding of IPv4 that stays off is an error.
func (*netfilter) Prepare() error {
	const net = "/proc/sys/net/"
	set(net+"ipv6/conf/all/forwarding", "1")
	set(net+"ipv4/conf/all/send_redirects", "0")
	sendNoRedirects()
	path := net + "ipv4/ip_forward"
	set(path, "1")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("prepare forwarding: %w", err)
	}
	if len(data) == 0 || data[0] != '1' {
		return errors.New("prepare forwarding: net.ipv4.ip_forward is off and cannot be set; " +
			"create the container with --sysctl net.ipv4.ip_forward=1")
	}
	return nil
}

// set writes what differs; a refusal shows in the value.
func set(path, value string) {
	if old, err := os.ReadFile(path); err == nil && string(old) != value+"\n" {
		_ = os.WriteFile(path, []byte(value), 0)
	}
}
