package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// DialIn connects to addr over TCP from inside the network namespace of pid, and
// closes the connection: the probe of a container without a health check. It
// works for addresses that the host cannot reach, loopback among them. The error
// wraps ctx's when it ends first.
func DialIn(ctx context.Context, pid int, addr netip.AddrPort) error {
	ns, err := openNetwork(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	err = inside(ns, func() error {
		// With a literal address the socket is made on this very thread.
		d := net.Dialer{FallbackDelay: -1}
		c, err := d.DialContext(ctx, "tcp", addr.String())
		if err != nil {
			// The dialer's deadline, which is ctx's, may be a moment before it.
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = errors.Join(err, context.DeadlineExceeded)
			}
			return err
		}
		return c.Close()
	})
	if err != nil {
		return fmt.Errorf("dial %s in network of pid %d: %w", addr, pid, err)
	}
	return nil
}

// Source returns the addresses, at most one of each family, from which a process in
// the network of pid reaches the rest of the world: those on the network of its
// default route. An answer to somebody outside leaves by that network, whichever of
// its addresses was asked.
func Source(pid int) ([]netip.Addr, error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	var addrs []netip.Addr
	err = inside(ns, func() error {
		// Addresses for documentation (RFC 5737, RFC 3849): a UDP socket that is
		// connected chooses its address, and sends nothing.
		for network, far := range map[string]string{"udp4": "192.0.2.1:9", "udp6": "[2001:db8::1]:9"} {
			c, err := net.Dial(network, far)
			if err != nil {
				continue // no default route in this family
			}
			if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
				addrs = append(addrs, a.AddrPort().Addr().Unmap())
			}
			_ = c.Close()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look into network of pid %d: %w", pid, err)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}

// inside runs fn in a network namespace.
func inside(ns *os.File, fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// onThread runs fn on a thread that ends with it, and so leaves no namespace
// behind. The main thread cannot end: the runtime would park it, inside the
// foreign namespace and for ever, so fn moves on to another one.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		result <- fn() // stays locked: the thread is thrown away
	}()
	return <-result
}
