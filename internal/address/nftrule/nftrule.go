package nftrule

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	ctStatusDNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	metaIIFKind  = 26     // NFT_META_IIFKIND, linux/netfilter/nf_tables.h, from kernel 5.6 on

	icmpPortUnreachable   = 3 // RFC 792
	icmpv6PortUnreachable = 4 // RFC 4443
)

// Family is what differs between IPv4 and IPv6.
type Family struct {
	Table       nftables.TableFamily
	Proto       byte // NFPROTO_…
	Address     nftables.SetDatatype
	source      [2]uint32 // where in a packet's header, and how long
	icmp        byte
	unreachable uint8
	Has         func(netip.Addr) bool
}

// The two families.
var (
	IPv4 = Family{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, nftables.TypeIPAddr, [2]uint32{12, 4}, unix.IPPROTO_ICMP, icmpPortUnreachable, netip.Addr.Is4}
	IPv6 = Family{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, nftables.TypeIP6Addr, [2]uint32{8, 16}, unix.IPPROTO_ICMPV6, icmpv6PortUnreachable, netip.Addr.Is6}
)

// Join makes one list of expressions out of several.
func Join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// Arriving is iifname != "lo": Docker's DNS is on the loopback interface.
func Arriving() []expr.Any { return notLoopback(expr.MetaKeyIIFNAME) }

// Leaving is oifname != "lo".
func Leaving() []expr.Any { return notLoopback(expr.MetaKeyOIFNAME) }

// LeavingBy is oifname.
func LeavingBy(interfaceName string) []expr.Any {
	return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, name(interfaceName))
}

func notLoopback(key expr.MetaKey) []expr.Any { return meta(key, expr.CmpOpNeq, name("lo")) }

// FromBridge is iifkind "bridge": what comes out of one of Docker's networks.
func FromBridge() []expr.Any { return meta(metaIIFKind, expr.CmpOpEq, name("bridge")) }

// name is an interface's name or kind as the kernel compares it.
func name(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// NotICMP leaves ICMP alone: IPv6 finds its neighbours with it, and errors about
// forwarded flows find their way without a rule.
func (f Family) NotICMP() []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpNeq, []byte{f.icmp}) }

// Is is meta nfproto, for a table of both families.
func (f Family) Is() []expr.Any { return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{f.Proto}) }

// L4 is meta l4proto: one of IPPROTO_TCP and IPPROTO_UDP.
func L4(proto byte) []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{proto}) }

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: data},
	}
}

// ToPort is th dport: it is in the same place for TCP and UDP.
func ToPort(port uint16) []expr.Any {
	return payload(expr.PayloadBaseTransportHeader, 2, binaryutil.BigEndian.PutUint16(port))
}

// FromPort is th sport.
func FromPort(port uint16) []expr.Any {
	return payload(expr.PayloadBaseTransportHeader, 0, binaryutil.BigEndian.PutUint16(port))
}

func payload(base expr.PayloadBase, offset uint32, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(data))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
	}
}

// ToThisHost is fib daddr type local.
func ToThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// RoutedBy is fib daddr oifname: the interface that leads there, before anything is routed.
func RoutedBy(interfaceName string) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultOIFNAME: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name(interfaceName)},
	}
}

// TrackIn is ct zone set, for both directions of a flow.
func TrackIn(zone uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint16(zone)},
		&expr.Ct{Key: expr.CtKeyZONE, Register: 1, SourceRegister: true},
	}
}

// ToAddr is ip daddr or ip6 daddr; where it is, RFC 791 and RFC 8200 say.
func ToAddr(a netip.Addr) []expr.Any {
	if a.Is6() {
		return payload(expr.PayloadBaseNetworkHeader, 24, a.AsSlice())
	}
	return payload(expr.PayloadBaseNetworkHeader, 16, a.AsSlice())
}

// FromAddr is ip saddr or ip6 saddr.
func FromAddr(a netip.Addr) []expr.Any {
	if a.Is6() {
		return payload(expr.PayloadBaseNetworkHeader, 8, a.AsSlice())
	}
	return payload(expr.PayloadBaseNetworkHeader, 12, a.AsSlice())
}

// OneIn lets every nth flow pass. In a row of rules with n, n-1, … 1 each gets
// the same share.
func OneIn(n int) []expr.Any {
	if n == 1 {
		return nil
	}
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// ForwardTo is dnat to an address, with the port as it is.
func (f Family) ForwardTo(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.Proto), RegAddrMin: 1},
	}
}

// ForwardToOneOf is dnat to jhash saddr . th sport mod n map @addresses: always the same one
// for what a client sends from one port.
func (f Family) ForwardToOneOf(addresses *nftables.Set, n uint32) []expr.Any {
	return append(f.ByClient(addresses, n), &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.Proto), RegAddrMin: 1})
}

// ByClient puts into register 1 what the map has for jhash saddr . th sport mod n.
func (f Family) ByClient(of *nftables.Set, n uint32) []expr.Any {
	const seed = 1 // any, but the same for every map: without one the kernel makes one up
	from, size := f.source[0], f.source[1]
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: from, Len: size},
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + size/4, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Hash{SourceRegister: unix.NFT_REG32_00, DestRegister: 1, Length: size + 4, Modulus: n, Seed: seed, Type: expr.HashTypeJenkins},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: of.Name, SetID: of.ID},
	}
}

// ForwardToPort is dnat to an address and a port.
func (f Family) ForwardToPort(a netip.AddrPort) []expr.Any { return f.nat(expr.NATTypeDestNAT, a) }

// ComeFrom is snat to an address and a port.
func (f Family) ComeFrom(a netip.AddrPort) []expr.Any { return f.nat(expr.NATTypeSourceNAT, a) }

func (f Family) nat(kind expr.NATType, a netip.AddrPort) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: a.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(a.Port())},
		&expr.NAT{Type: kind, Family: uint32(f.Proto), RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}
}

// Mark sets bits of the packet's mark and leaves the others.
func Mark(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bits), Xor: binaryutil.NativeEndian.PutUint32(bits),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

// Masquerade gives what leaves the address of the interface it leaves by.
func Masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// ResetTCP is reject with tcp reset.
func ResetTCP() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

// Unreachable is reject with icmp port-unreachable.
func (f Family) Unreachable() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: f.unreachable}}
}

// Return ends the chain.
func Return() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

// FamilyNotIn is meta nfproto != @set.
func FamilyNotIn(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
	}
}

// NewFlow is ct state new.
func NewFlow() []expr.Any { return ct(expr.CtKeySTATE, expr.CtStateBitNEW) }

// Forwarded is ct status dnat.
func Forwarded() []expr.Any { return ct(expr.CtKeySTATUS, ctStatusDNAT) }

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
