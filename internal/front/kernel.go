package front

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
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
	flows *conntrack.Conn
	zones *netlink.Conn

	targets []frontmap.Target // in force
	zone    uint16            // that requests by UDP are looked up in
}

// Apply puts the whole state in force in one transaction, and then moves UDP to another
// zone when all targets are others than before: one of several that stays keeps its flows.
func (n *netfilter) Apply(generation uint64, targets []frontmap.Target) error {
	if err := n.write(generation, targets); err != nil {
		return err
	}
	stays := slices.ContainsFunc(targets, func(t frontmap.Target) bool {
		return slices.ContainsFunc(n.targets, func(o frontmap.Target) bool { return o.Addr == t.Addr })
	})
	n.targets = targets
	if stays {
		return nil
	}
	// The generation counts on when this process is another one, where flows may be left.
	zone := uint16(1 + generation%math.MaxUint16)
	if n.setZone(zone) != nil {
		zone = 0 // a kernel without zones: Sweep moves the flows, and an answer under way is lost
	}
	n.zone = zone
	return nil
}

// write leaves IPv6 out where the kernel has none and no target needs it.
func (n *netfilter) write(generation uint64, targets []frontmap.Target) error {
	families := []nftrule.Family{nftrule.IPv4}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		families = append(families, nftrule.IPv6)
	}
	err := n.transact(families, generation, targets)
	wants6 := slices.ContainsFunc(targets, func(t frontmap.Target) bool { return t.Addr.Is6() })
	if err != nil && len(families) == 2 && !wants6 {
		if n.transact(families[:1], generation, targets) == nil {
			return nil
		}
	}
	return err
}

func (n *netfilter) transact(families []nftrule.Family, generation uint64, targets []frontmap.Target) (err error) {
	if n.rules == nil {
		if n.rules, err = nftables.New(nftables.AsLasting()); err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
	}
	for _, f := range families {
		write(n.rules, f, generation, targets)
	}
	if err := n.rules.Flush(); err != nil {
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
		if n.flows, err = conntrack.Dial(nil); err != nil {
			return fmt.Errorf("open conntrack: %w", err)
		}
	}
	flows, err := n.flows.Dump(nil)
	if err != nil {
		err = errors.Join(err, n.flows.Close())
		n.flows = nil
		return fmt.Errorf("list flows: %w", err)
	}
	var errs []error
	for _, f := range flows {
		if n.waitsForAnswers(f) || !stuck(f, local, targets, halfOpen) {
			continue
		}
		if err := n.flows.Delete(f); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete flow from %s: %w", f.TupleOrig.IP.SourceAddress, err))
		}
	}
	return errors.Join(errs...)
}

// waitsForAnswers says that no request comes to a flow any more.
func (n *netfilter) waitsForAnswers(f conntrack.Flow) bool {
	return f.TupleOrig.Proto.Protocol == unix.IPPROTO_UDP && f.TupleOrig.Zone != n.zone
}

// stuck says whether a flow came to the front from outside and is answered by
// something that is not a target, be it the front itself.
func stuck(f conntrack.Flow, local []netip.Prefix, targets []frontmap.Target, halfOpen bool) bool {
	own := func(a netip.Addr) bool {
		return a.IsLoopback() || slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	from, to := f.TupleOrig.IP.SourceAddress, f.TupleOrig.IP.DestinationAddress
	if own(from) || to.IsLoopback() || !own(to) {
		return false
	}
	answers := f.TupleReply.IP.SourceAddress
	if slices.ContainsFunc(targets, func(t frontmap.Target) bool { return t.Addr == answers }) {
		return false
	}
	return flow.Unsettled(f) && (halfOpen || f.TupleOrig.Proto.Protocol == unix.IPPROTO_UDP)
}

// Prepare turns forwarding on and redirects off. In a container /proc/sys is
// read-only and the container's own sysctls must have said so already; only
// forwarding of IPv4 that stays off is an error.
func (*netfilter) Prepare() error {
	const net = "/proc/sys/net/"
	set(net+"ipv6/conf/all/forwarding", "1")
	redirects, _ := filepath.Glob(net + "ipv4/conf/*/send_redirects")
	for _, path := range redirects {
		set(path, "0")
	}
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
