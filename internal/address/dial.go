package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

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
	err = onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
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
