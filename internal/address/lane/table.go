package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/address/nftrule"
)

const (
	// Table is the name of the nft table of the family inet, and of those of the families ip
	// and ip6.
	Table = "dso_lane"
	// Mark is the bit that the first packet of a connection gets which the lane has
	// forwarded.
	Mark = 0x08000000

	// beforeDocker is the priority of the lane's chain: one before the chains in
	// which Docker forwards what is published (dstnat, -100).
	beforeDocker = -101

	// beforeMasquerade is the same for the chains in which Docker gives what leaves the
	// host's address (srcnat, 100).
	beforeMasquerade = 99

	flagOwner = 2 // NFT_TABLE_F_OWNER, linux/netfilter/nf_tables.h

	// lapse is how long the table stays in force without being confirmed.
	lapse = 6 * time.Second
)

// ErrUnsupported is wrapped when this kernel or this engine cannot have the lane.
var ErrUnsupported = errors.New("no fast lane on this host")

// table is what is in the kernel. Its socket owns it.
type table struct {
	socket *netlink.Conn
	conn   *nftables.Conn
	lane   *nftables.Chain
	late   *nftables.Chain
	alive  *nftables.Set
	// apart keeps late answers apart, by the family that they are of. A zone that is set in a
	// table of both families turns connection tracking on for both. On a host that does not
	// track IPv6 the kernel then goes through all connections of the host, which takes longer
	// than all else in a switch, and again in the next one.
	apart map[nftables.TableFamily]*nftables.Chain
}

// openTable makes the table, empty. When it exists it belongs to a process that
// lives: another agent.
func openTable() (*table, error) {
	tb := &table{apart: map[nftables.TableFamily]*nftables.Chain{}}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		tb.socket = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tb.conn = conn
	t, err := tb.own(nftables.TableFamilyINet)
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	tb.lane = conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(beforeDocker),
	})
	tb.late = conn.AddChain(&nftables.Chain{
		Name: "late", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(beforeMasquerade),
	})
	tb.alive = &nftables.Set{Table: t, Name: "alive", KeyType: nftables.TypeNFProto, HasTimeout: true, Timeout: lapse}
	err = errors.Join(conn.AddSet(tb.alive, nil), conn.Flush())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make table %s: %w", Table, err), conn.CloseLasting())
	}
	return tb, nil
}

// keepsApart makes the table in which late answers of a family are kept apart, if there is none.
func (t *table) keepsApart(f nftables.TableFamily) error {
	if t.apart[f] != nil {
		return nil
	}
	owned, err := t.own(f)
	if err != nil {
		return err
	}
	t.apart[f] = t.conn.AddChain(&nftables.Chain{
		Name: "apart", Table: owned, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, // before a flow is looked up
	})
	return nil
}

// own makes a table with the flag that google/nftables does not set.
func (t *table) own(f nftables.TableFamily) (*nftables.Table, error) {
	attrs := netlink.NewAttributeEncoder()
	attrs.String(unix.NFTA_TABLE_NAME, Table)
	attrs.Bytes(unix.NFTA_TABLE_FLAGS, []byte{0, 0, 0, flagOwner})
	name, err := attrs.Encode()
	if err != nil {
		return nil, err
	}
	err = nftrule.Send(t.socket, unix.NFT_MSG_NEWTABLE, netlink.Create|netlink.Excl, byte(f), name)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return nil, fmt.Errorf("%w: the kernel has no nft tables with an owner (5.12 and newer have): %w", ErrUnsupported, err)
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: table %s belongs to another process: %w", ErrUnsupported, Table, err)
	case err != nil:
		return nil, fmt.Errorf("make table %s: %w", Table, err)
	}
	return &nftables.Table{Name: Table, Family: f}, nil
}

// write puts the rules in force, in one transaction.
func (t *table) write(now rules) error {
	for _, r := range now.routes { // before a container leaves: then there is no time for it
		if r.port.Proto == UDP {
			if err := t.keepsApart(family(r.port.Host).Table); err != nil {
				return err
			}
		}
	}
	for chain := range maps.Values(t.apart) {
		t.conn.FlushChain(chain)
	}
	t.conn.FlushChain(t.lane)
	t.conn.FlushChain(t.late)
	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		t.conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: nftrule.Join(parts...)})
	}
	var ways []way
	if len(now.late) > 0 {
		var err error
		if ways, err = waysOut(); err != nil {
			return err
		}
	}
	for _, l := range now.late {
		f := family(l.addr)
		if err := t.keepsApart(f.Table); err != nil {
			return err
		}
		for _, from := range ways {
			if from.addr.Is4() != l.addr.Is4() || !l.port.Host.IsUnspecified() && l.port.Host != from.addr {
				continue
			}
			answer := nftrule.Join(nftrule.L4(unix.IPPROTO_UDP), nftrule.FromPort(l.port.Inside), nftrule.FromAddr(l.addr))
			add(t.apart[f.Table], answer, nftrule.RoutedBy(from.device), nftrule.TrackIn(l.zone))
			add(t.late, f.Is(), answer, nftrule.LeavingBy(from.device), f.ComeFrom(netip.AddrPortFrom(from.addr, l.port.Number)))
		}
	}
	if len(now.routes) > 0 {
		add(t.lane, nftrule.FamilyNotIn(t.alive), nftrule.Return())
		add(t.lane, nftrule.FromBridge(), nftrule.Return())
	}
	for _, r := range now.routes {
		f := family(r.port.Host)
		to := nftrule.ToAddr(r.port.Host)
		if r.port.Host.IsUnspecified() {
			to = nftrule.ToThisHost()
		}
		for i, a := range r.to {
			add(t.lane, f.Is(), nftrule.L4(byte(r.port.Proto)), nftrule.ToPort(r.port.Number), to, nftrule.OneIn(len(r.to)-i),
				nftrule.Mark(Mark), f.ForwardToPort(netip.AddrPortFrom(a, r.port.Inside)))
		}
	}
	return t.confirm()
}

// way is a device by which packets leave the host, with an address of the host there.
type way struct {
	device string
	addr   netip.Addr
}

// waysOut lists them, but for loopback and bridges, from which the lane takes nothing. Of
// several addresses of a device the first one of a family comes first, and the first rule that
// fits counts, as when Docker masquerades. A switch waits for it: no device is asked about that
// has no address of use, as those of containers.
func waysOut() ([]way, error) {
	addrs, err := addrsOfDevices()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	var all []way
	for _, index := range slices.Sorted(maps.Keys(addrs)) {
		name, err := nameOf(socket, index)
		if err != nil || name == "lo" || isBridge(socket, name) {
			continue // it has gone meanwhile, or the lane takes nothing from it
		}
		for _, a := range addrs[index] {
			all = append(all, way{name, a})
		}
	}
	return all, nil
}

func nameOf(socket, index int) (string, error) {
	r := &unix.Ifreq{}
	r.SetUint32(uint32(index)) //nolint:gosec // the kernel's own number, see netdevice(7)
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFNAME, r); err != nil {
		return "", err
	}
	return r.Name(), nil
}

// addrsOfDevices asks the kernel once for the addresses of all devices that others can reach, by
// the device's index. Package net would ask for all of them once for each device.
func addrsOfDevices() (map[int][]netip.Addr, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, err
	}
	all := map[int][]netip.Addr{}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, err
		}
		index := int(binary.NativeEndian.Uint32(m.Data[4:8])) // ifa_index of struct ifaddrmsg, rtnetlink(7)
		var own netip.Addr
		for _, a := range attrs {
			// The address of a device that has a peer is its IFA_LOCAL.
			if a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !own.IsValid() {
				own, _ = netip.AddrFromSlice(a.Value)
			}
		}
		if own = own.Unmap(); own.IsValid() && !own.IsLinkLocalUnicast() && !own.IsLoopback() {
			all[index] = append(all[index], own)
		}
	}
	return all, nil
}

// isBridge asks the device's driver for its name. Many have none that tells it.
func isBridge(socket int, device string) bool {
	info, err := unix.IoctlGetEthtoolDrvinfo(socket, device)
	return err == nil && unix.ByteSliceToString(info.Driver[:]) == "bridge"
}

func family(a netip.Addr) nftrule.Family {
	if a.Is6() {
		return nftrule.IPv6
	}
	return nftrule.IPv4
}

// confirm keeps the table in force for another while. It also flushes what is
// queued.
func (t *table) confirm() error {
	t.conn.FlushSet(t.alive)
	err := t.conn.SetAddElements(t.alive, []nftables.SetElement{{Key: []byte{unix.NFPROTO_IPV4}}, {Key: []byte{unix.NFPROTO_IPV6}}})
	if err := errors.Join(err, t.conn.Flush()); err != nil {
		return fmt.Errorf("write table %s: %w", Table, err)
	}
	return nil
}

// close removes the table.
func (t *table) close() error { return t.conn.CloseLasting() }
