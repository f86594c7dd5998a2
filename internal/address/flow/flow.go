// Package flow owns the questions and the orders to the kernel about connections
// that it tracks, in one network namespace at a time.
package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// States of linux/netfilter/nf_conntrack_tcp.h.
const (
	tcpSynSent     = 1
	tcpEstablished = 3
)

// Established counts the TCP connections that are forwarded to one of the addresses
// and that neither side has begun to close. ns is a network namespace; nil stands
// for the one of this process.
func Established(ns *os.File, addrs []netip.Addr) (int, error) {
	n := 0
	err := each(ns, func(_ *conntrack.Conn, f conntrack.Flow) error {
		if f.Status.DstNAT() && slices.Contains(addrs, f.TupleReply.IP.SourceAddress) && tcpIs(f, tcpEstablished) {
			n++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count connections to %s: %w", addrs, err)
	}
	return n, nil
}

// Forget deletes, in the namespace of this process, the flows that are stuck: those
// that NAT would keep where they are although nobody there need know them, and that
// do not belong there. They are UDP ones, and TCP handshakes without an answer. It says
// whether there were any.
func Forget(stuck func(f conntrack.Flow) bool) (any bool, err error) {
	err = each(nil, func(c *conntrack.Conn, f conntrack.Flow) error {
		if !Unsettled(f) || !stuck(f) {
			return nil
		}
		any = true
		if err := c.Delete(f); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete flow from %s: %w", f.TupleOrig.IP.SourceAddress, err)
		}
		return nil
	})
	return any, err
}

// Unsettled says that a flow would stay where it is although nobody there keeps it:
// a UDP one, or a TCP handshake without an answer.
func Unsettled(f conntrack.Flow) bool {
	return f.TupleOrig.Proto.Protocol == unix.IPPROTO_UDP || tcpIs(f, tcpSynSent)
}

func tcpIs(f conntrack.Flow, state uint8) bool {
	return f.TupleOrig.Proto.Protocol == unix.IPPROTO_TCP && f.ProtoInfo.TCP != nil && f.ProtoInfo.TCP.State == state
}

func each(ns *os.File, do func(*conntrack.Conn, conntrack.Flow) error) error {
	cfg := &netlink.Config{}
	if ns != nil {
		cfg.NetNS = int(ns.Fd())
	}
	c, err := conntrack.Dial(cfg)
	if err != nil {
		return fmt.Errorf("open conntrack: %w", err)
	}
	defer func() { _ = c.Close() }()
	flows, err := c.Dump(nil)
	if err != nil {
		return fmt.Errorf("list flows: %w", err)
	}
	var errs []error
	for _, f := range flows {
		errs = append(errs, do(c, f))
	}
	return errors.Join(errs...)
}
