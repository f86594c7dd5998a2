package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// commits hears from the kernel when the firewall of a network namespace has changed.
type commits struct {
	socket *netlink.Conn

	mu  sync.Mutex
	all []time.Time
}

// hear begins to listen in the namespace of a process.
func hear(pid string) (*commits, error) {
	ns, err := os.Open("/proc/" + pid + "/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	c := &commits{}
	if c.socket, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())}); err != nil {
		return nil, fmt.Errorf("listen to the firewall of process %s: %w", pid, err)
	}
	// To take the dozens of messages of a commit out of the socket costs more than the commit. The
	// last one, which says that it is in force, comes by itself.
	only, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 1}, // the type of a message, without its subsystem, in the low byte
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NFT_MSG_NEWGEN, SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	err = errors.Join(err, c.socket.SetBPF(only), c.socket.JoinGroup(unix.NFNLGRP_NFTABLES))
	if err != nil {
		return nil, fmt.Errorf("listen to the firewall of process %s: %w", pid, err)
	}
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listen to the firewall of process %s: %w", pid, err)
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		// The runtime's poller would be a thread that waits for its turn.
		if setErr = unix.SetNonblock(int(fd), false); setErr == nil {
			go c.listen(int(fd))
		}
	})
	if err = errors.Join(err, setErr); err != nil {
		return nil, fmt.Errorf("listen to the firewall of process %s: %w", pid, err)
	}
	return c, nil
}

// listen notes when it hears of a commit. It does not wait for its turn among the clients that
// make the load: that would be timed too.
func (c *commits) listen(fd int) {
	runtime.LockOSThread()
	attr := &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	_ = unix.SchedSetAttr(0, attr, 0) // it may not be allowed, and then the times are longer
	message := make([]byte, 1<<16)
	for {
		_, err := unix.Read(fd, message)
		now := time.Now()
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return
		}
		c.mu.Lock()
		c.all = append(c.all, now)
		c.mu.Unlock()
	}
}

// after returns the first commit after a moment.
func (c *commits) after(at time.Time) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.all {
		if t.After(at) {
			return t, true
		}
	}
	return time.Time{}, false
}
