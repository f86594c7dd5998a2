package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Signal sends a signal, such as SIGHUP, to a container's first process. One that does
// not run is errdefs.IsConflict.
//
// It is not the engine's own call that sends it: that one takes every signal for a
// stop by a person, and a container with the policy unless-stopped is not started
// again after it, nor, where it has no stop signal of its own, any container after its
// next crash.
func (c *Client) Signal(ctx context.Context, id, signal string) error {
	if c.mayChange != nil {
		if err := c.mayChange(); err != nil {
			return err
		}
	}
	return wrap("send "+signal+" to", id, c.signal(ctx, id, unix.SignalNum(signal)))
}

func (c *Client) signal(ctx context.Context, id string, signal unix.Signal) error {
	if signal == 0 {
		return errors.New("there is no such signal")
	}
	pid, err := c.processOf(ctx, id)
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	send := func() error { return unix.PidfdSendSignal(process, signal, nil, 0) }
	switch {
	case errors.Is(err, unix.ENOSYS): // before Linux 5.3
		send = func() error { return unix.Kill(pid, signal) }
	case err != nil:
		return fmt.Errorf("process %d: %w", pid, notRunning(err))
	default:
		defer func() { _ = unix.Close(process) }()
	}
	// What is open now is the container's if it is that still: the number alone may
	// have become another process's.
	if again, err := c.processOf(ctx, id); err != nil || again != pid {
		return errors.Join(errors.New("it was started again meanwhile"), err)
	}
	if err := send(); err != nil {
		return fmt.Errorf("process %d: %w", pid, notRunning(err))
	}
	return nil
}

// processOf returns the first process of a container, which this host must know by the
// same number.
func (c *Client) processOf(ctx context.Context, id string) (int, error) {
	ct, err := c.Inspect(ctx, id)
	if err == nil && (!ct.Running() || ct.State.Pid == 0) {
		err = fmt.Errorf("it is %s: %w", ct.State.Status, errdefs.ErrConflict)
	}
	if err != nil {
		return 0, err
	}
	return ct.State.Pid, isOf("/proc", ct.State.Pid, ct.ID)
}

// isOf says why a process is not one of the container's: its control group is named
// for that. Where the engine's processes have other numbers, on another host or outside
// of the agent's own container, the number means somebody else.
func isOf(proc string, pid int, containerID string) error {
	groups, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("process %d is not there: %w", pid, errdefs.ErrConflict)
	}
	if err == nil && !strings.Contains(string(groups), containerID) {
		err = fmt.Errorf("process %d is not the container's here: the agent must see the processes of the engine's host", pid)
	}
	return err
}

func notRunning(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrConflict)
	}
	return err
}
