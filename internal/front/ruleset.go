package front

import (
	"net/netip"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const (
	ctStatusDNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h

	icmpPortUnreachable   = 3 // RFC 792
	icmpv6PortUnreachable = 4 // RFC 4443
)

// family is what differs between IPv4 and IPv6.
type family struct {
	table       nftables.TableFamily
	proto       uint32
	icmp        byte
	unreachable uint8
	has         func(netip.Addr) bool
}

var (
	ipv4 = family{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, unix.IPPROTO_ICMP, icmpPortUnreachable, netip.Addr.Is4}
	ipv6 = family{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, unix.IPPROTO_ICMPV6, icmpv6PortUnreachable, netip.Addr.Is6}
)

// write queues the whole table of one family. The table and its chains stay and
// only their rules are exchanged: a packet then meets the old rules of a chain
// or the new ones, and never a hook that is being moved.
func (f family) write(c *nftables.Conn, generation uint64, targets []frontmap.Target) {
	t := c.AddTable(&nftables.Table{Name: frontmap.Table, Family: f.table})
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio})
	}
	prerouting := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	postrouting := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	refuse := chain("refuse", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	applied := chain(frontmap.MarkChain, "", nil, nil)
	c.FlushTable(t)

	add := func(ch *nftables.Chain, comment string, exprs ...[]expr.Any) {
		r := &nftables.Rule{Table: t, Chain: ch}
		for _, e := range exprs {
			r.Exprs = append(r.Exprs, e...)
		}
		if comment != "" {
			r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
		}
		c.AddRule(r)
	}
	var addrs []netip.Addr
	for _, target := range targets {
		if f.has(target.Addr) {
			addrs = append(addrs, target.Addr)
		}
	}
	for i, a := range addrs {
		add(prerouting, "", arriving(), f.notICMP(), f.toThisHost(), oneIn(len(addrs)-i), f.forwardTo(a))
	}
	if len(addrs) == 0 {
		add(refuse, "", arriving(), newFlow(), f.toThisHost(), isTCP(), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		add(refuse, "", arriving(), newFlow(), f.toThisHost(), f.notICMP(),
			[]expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: f.unreachable}})
	}
	add(postrouting, "", leaving(), forwarded(), []expr.Any{&expr.Masq{}})
	for _, mark := range frontmap.Marks(generation, targets) {
		add(applied, mark, []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	}
}

// arriving leaves the loopback interface alone: Docker's DNS is on it.
func arriving() []expr.Any { return notLoopback(expr.MetaKeyIIFNAME) }

func leaving() []expr.Any { return notLoopback(expr.MetaKeyOIFNAME) }

func notLoopback(key expr.MetaKey) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
	}
}

// notICMP leaves ICMP alone: IPv6 finds its neighbours with it, and errors about
// forwarded flows find their way without a rule.
func (f family) notICMP() []expr.Any { return transport(expr.CmpOpNeq, f.icmp) }

func isTCP() []expr.Any { return transport(expr.CmpOpEq, unix.IPPROTO_TCP) }

func transport(op expr.CmpOp, proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{proto}},
	}
}

func (f family) toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// oneIn lets every nth flow pass. In a row of rules with n, n-1, … 1 each gets
// the same share.
func oneIn(n int) []expr.Any {
	if n == 1 {
		return nil
	}
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

func (f family) forwardTo(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.proto, RegAddrMin: 1},
	}
}

func newFlow() []expr.Any { return ct(expr.CtKeySTATE, expr.CtStateBitNEW) }

func forwarded() []expr.Any { return ct(expr.CtKeySTATUS, ctStatusDNAT) }

func ct(key expr.CtKey, bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
