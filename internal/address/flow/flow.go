// Package flow owns the questions and the orders to the kernel about connections
// that it tracks, in one network namespace at a time.
//
// A host may track a hundred thousand of them, most of which have ended. So the kernel is asked
// for those that matter; one that does not know how to choose (before 5.8, or 5.15 for those
// without an answer) tells of all.
package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// States of linux/netfilter/nf_conntrack_tcp.h.
const (
	tcpSynSent     = 1
	tcpEstablished = 3
)

// Tracker asks and orders in one network namespace.
type Tracker struct {
	asks   *netfilter.Conn
	orders *conntrack.Conn
}

// Open opens the tracker of a network namespace; nil stands for the one of this process.
func Open(ns *os.File) (*Tracker, error) {
	cfg := &netlink.Config{}
	if ns != nil {
		cfg.NetNS = int(ns.Fd())
	}
	asks, err := netfilter.Dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	orders, err := conntrack.Dial(cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open conntrack: %w", err), asks.Close())
	}
	return &Tracker{asks, orders}, nil
}

// Close closes its sockets.
func (t *Tracker) Close() error { return errors.Join(t.asks.Close(), t.orders.Close()) }

// Established counts the TCP connections that are forwarded to one of the addresses
// and that neither side has begun to close.
func (t *Tracker) Established(addrs []netip.Addr) (n int, err error) {
	for _, a := range addrs {
		flows, err := t.list(answeredBy(a))
		if err != nil {
			return 0, fmt.Errorf("count connections to %s: %w", a, err)
		}
		for _, f := range flows {
			if f.Status.DstNAT() && f.TupleReply.IP.SourceAddress == a && tcpIs(f, tcpEstablished) {
				n++
			}
		}
	}
	return n, nil
}

// Forget deletes the flows that are stuck: those that NAT would keep where they are although
// nobody there need know them, and that do not belong there. They are UDP ones and, on request,
// TCP handshakes without an answer. It says whether there were any.
func (t *Tracker) Forget(halfOpen bool, stuck func(f conntrack.Flow) bool) (any bool, err error) {
	questions := []question{byUDP(netfilter.ProtoIPv4), byUDP(netfilter.ProtoIPv6)}
	if halfOpen {
		questions = append(questions, unanswered())
	}
	var flows []conntrack.Flow
	for _, q := range questions {
		found, listErr := t.list(q)
		flows, err = append(flows, found...), errors.Join(err, listErr)
	}
	for _, f := range flows {
		if f.TupleOrig.Proto.Protocol != unix.IPPROTO_UDP && (!halfOpen || !tcpIs(f, tcpSynSent)) || !stuck(f) {
			continue
		}
		any = true
		if gone := t.orders.Delete(f); gone != nil && !errors.Is(gone, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("delete flow from %s: %w", f.TupleOrig.IP.SourceAddress, gone))
		}
	}
	return any, err
}

func tcpIs(f conntrack.Flow, state uint8) bool {
	return f.TupleOrig.Proto.Protocol == unix.IPPROTO_TCP && f.ProtoInfo.TCP != nil && f.ProtoInfo.TCP.State == state
}

// question is which flows the kernel is asked for, in the terms of
// linux/netfilter/nfnetlink_conntrack.h. A kernel that does not know a term leaves it out.
type question struct {
	family netfilter.ProtoFamily
	terms  []netfilter.Attribute
}

const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaFilter     = 25
	ctaStatusMask = 26

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv6Src    = 3
	ctaProtoNum   = 1

	ctaFilterOrig  = 1
	ctaFilterReply = 2

	// Bits of net/netfilter/nf_internals.h.
	filterIPSrc    = 1 << 0
	filterProtoNum = 1 << 3
)

func nested(kind uint16, children ...netfilter.Attribute) netfilter.Attribute {
	return netfilter.Attribute{Type: kind, Nested: true, Children: children}
}

// flags are in the byte order of the machine, unlike all else.
func flags(kind uint16, bits uint32) netfilter.Attribute {
	return nested(ctaFilter, netfilter.Attribute{Type: kind, Data: binary.NativeEndian.AppendUint32(nil, bits)})
}

// byUDP is about one family: without one the kernel does not look at tuples.
func byUDP(family netfilter.ProtoFamily) question {
	return question{family, []netfilter.Attribute{
		flags(ctaFilterOrig, filterProtoNum),
		nested(ctaTupleOrig, nested(ctaTupleProto, netfilter.Attribute{Type: ctaProtoNum, Data: []byte{unix.IPPROTO_UDP}})),
	}}
}

func unanswered() question {
	return question{terms: []netfilter.Attribute{
		{Type: ctaStatus, Data: netfilter.Uint32Bytes(0)},
		{Type: ctaStatusMask, Data: netfilter.Uint32Bytes(uint32(conntrack.StatusSeenReply))},
	}}
}

func answeredBy(a netip.Addr) question {
	family, kind := netfilter.ProtoIPv4, uint16(ctaIPv4Src)
	if a.Is6() {
		family, kind = netfilter.ProtoIPv6, ctaIPv6Src
	}
	return question{family, []netfilter.Attribute{
		flags(ctaFilterReply, filterIPSrc),
		nested(ctaTupleReply, nested(ctaTupleIP, netfilter.Attribute{Type: kind, Data: a.AsSlice()})),
	}}
}

// list returns the flows that a question is about, and perhaps others.
func (t *Tracker) list(q question) ([]conntrack.Flow, error) {
	found, err := t.ask(q)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		found, err = t.ask(question{})
	}
	if err != nil {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	flows := make([]conntrack.Flow, 0, len(found))
	for _, m := range found {
		var e conntrack.Event // what a list says of a flow is what is told of a new one
		if err := e.Unmarshal(m); err != nil {
			return nil, fmt.Errorf("list flows: %w", err)
		}
		flows = append(flows, *e.Flow)
	}
	return flows, nil
}

func (t *Tracker) ask(q question) ([]netlink.Message, error) {
	const get = 1 // IPCTNL_MSG_CT_GET
	m, err := netfilter.MarshalNetlink(netfilter.Header{
		SubsystemID: netfilter.NFSubsysCTNetlink, MessageType: get, Family: q.family, Flags: netlink.Request | netlink.Dump,
	}, q.terms)
	if err != nil {
		return nil, err
	}
	return t.asks.Query(m)
}
