package address

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

const (
	pollApplied    = 2 * time.Millisecond
	tcpEstablished = 3 // TCP_CONNTRACK_ESTABLISHED, linux/netfilter/nf_conntrack_tcp.h
)

// ErrNotApplied says that a front has not applied anything yet, or is not one.
var ErrNotApplied = frontmap.ErrNoMarks

// Applied reads what the front whose PID 1 is pid (in the host's numbering) has
// in force. Generation 0 means that it uses its fallback names, because it found
// no map or nothing that the map names; no addresses mean that it refuses. The
// error wraps ErrNotApplied when there is nothing to read yet.
func Applied(pid int) (generation uint64, addrs []netip.Addr, err error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return 0, nil, err
	}
	defer ns.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return 0, nil, fmt.Errorf("read front of pid %d: %w", pid, err)
	}
	table := &nftables.Table{Name: frontmap.Table, Family: nftables.TableFamilyIPv4}
	rules, err := c.GetRules(table, &nftables.Chain{Name: frontmap.MarkChain})
	if err != nil {
		return 0, nil, fmt.Errorf("read front of pid %d: %w", pid, err)
	}
	var marks []string
	for _, r := range rules {
		if mark, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
			marks = append(marks, mark)
		}
	}
	generation, targets, err := frontmap.ParseMarks(marks)
	if err != nil {
		return 0, nil, fmt.Errorf("read front of pid %d: %w", pid, err)
	}
	for _, t := range targets {
		addrs = append(addrs, t.Addr)
	}
	return generation, addrs, nil
}

// WaitApplied returns once the front has the generation, or a later one, in
// force. When ctx ends first the error wraps ctx's and says what the front shows
// instead; when the process is gone it wraps fs.ErrNotExist, at once.
func WaitApplied(ctx context.Context, pid int, generation uint64) error {
	tick := time.NewTicker(pollApplied)
	defer tick.Stop()
	for {
		// Another error may be half of a change, or a front that only just started.
		shown, _, err := Applied(pid)
		switch {
		case err == nil && shown >= generation:
			return nil
		case err == nil:
			err = fmt.Errorf("generation %d is in force", shown)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("wait for generation %d: %w", generation, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for generation %d at the front of pid %d: %w (%w)", generation, pid, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Established counts the TCP connections that the front of pid forwards to addr
// and that neither side has begun to close.
func Established(pid int, addr netip.Addr) (int, error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	c, err := conntrack.Dial(&netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return 0, fmt.Errorf("count connections to %s: %w", addr, err)
	}
	defer c.Close()
	flows, err := c.Dump(nil)
	if err != nil {
		return 0, fmt.Errorf("count connections to %s: %w", addr, err)
	}
	n := 0
	for _, f := range flows {
		if forwardedTo(f, addr) {
			n++
		}
	}
	return n, nil
}

func forwardedTo(f conntrack.Flow, addr netip.Addr) bool {
	return f.TupleOrig.Proto.Protocol == unix.IPPROTO_TCP &&
		f.Status.DstNAT() && f.TupleReply.IP.SourceAddress == addr.Unmap() &&
		f.ProtoInfo.TCP != nil && f.ProtoInfo.TCP.State == tcpEstablished
}

// openNetwork opens the network namespace of a process. The pid 0 that the engine
// reports for a stopped container is an error: netlink would take it for "here".
func openNetwork(pid int) (*os.File, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("open network of pid %d: %w", pid, os.ErrInvalid)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open network of pid %d: %w", pid, err)
	}
	return ns, nil
}
