package address

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"

	"github.com/docker-secret-operator/dso/internal/address/flow"
	"github.com/docker-secret-operator/dso/internal/address/frontmap"
)

const pollApplied = 2 * time.Millisecond

// ErrNotApplied says that a front has not applied anything yet, or is not one.
var ErrNotApplied = frontmap.ErrNoMarks

// Applied reads what the front whose PID 1 is pid (in the host's numbering) has
// in force. Generation 0 means that it uses its fallback names, because it found
// no map or nothing that the map names; no addresses mean that it refuses. The
// error wraps ErrNotApplied when there is nothing to read yet.
func Applied(pid int) (generation uint64, addrs []netip.Addr, err error) {
	c, err := dialFront(pid)
	if err != nil {
		return 0, nil, err
	}
	generation, addrs, err = readMarks(c)
	if err := errors.Join(err, c.CloseLasting()); err != nil {
		return 0, nil, fmt.Errorf("read front of pid %d: %w", pid, err)
	}
	return generation, addrs, nil
}

// WaitApplied returns once the front has the generation, or a later one, in
// force. When ctx ends first the error wraps ctx's and says what the front shows
// instead; when the process is gone it wraps fs.ErrNotExist, at once.
func WaitApplied(ctx context.Context, pid int, generation uint64) error {
	c, err := dialFront(pid)
	if err != nil {
		return fmt.Errorf("wait for generation %d: %w", generation, err)
	}
	// Closing waits for the kernel to throw away the last transaction, some ten
	// milliseconds that the caller need not spend.
	defer func() { go func() { _ = c.CloseLasting() }() }()
	tick := time.NewTicker(pollApplied)
	defer tick.Stop()
	for {
		// An error may be half of a change, or a front that only just started.
		shown, _, err := readMarks(c)
		if err == nil && shown >= generation {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("generation %d is in force", shown)
		}
		if _, gone := os.Stat(fmt.Sprintf("/proc/%d", pid)); gone != nil {
			return fmt.Errorf("wait for generation %d: %w", generation, gone)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for generation %d at the front of pid %d: %w (%w)", generation, pid, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func dialFront(pid int) (*nftables.Conn, error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())), nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("read front of pid %d: %w", pid, err)
	}
	return c, nil
}

func readMarks(c *nftables.Conn) (generation uint64, addrs []netip.Addr, err error) {
	table := &nftables.Table{Name: frontmap.Table, Family: nftables.TableFamilyIPv4}
	rules, err := c.GetRules(table, &nftables.Chain{Name: frontmap.MarkChain})
	if err != nil {
		return 0, nil, err
	}
	var marks []string
	for _, r := range rules {
		if mark, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
			marks = append(marks, mark)
		}
	}
	generation, targets, err := frontmap.ParseMarks(marks)
	for _, t := range targets {
		addrs = append(addrs, t.Addr)
	}
	return generation, addrs, err
}

// EstablishedHere counts the same in the namespace of this process, where the fast lane
// forwards.
func EstablishedHere(addrs ...netip.Addr) (int, error) { return established(nil, addrs) }

func established(ns *os.File, addrs []netip.Addr) (n int, err error) {
	t, err := flow.Open(ns)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return t.Established(addrs)
}

// Established counts the TCP connections that the front of pid forwards to one of
// the addresses and that neither side has begun to close.
func Established(pid int, addrs ...netip.Addr) (int, error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ns.Close() }()
	return established(ns, addrs)
}
