package lane

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// onExit calls fn once when the process has ended, unless cancel was called before.
// A process that is gone already is an error.
func onExit(pid int, fn func()) (cancel func(), err error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	go func() {
		asked := false
		// A pidfd can be read as soon as the process has ended. The first answer makes
		// the poller wait for that.
		err := raw.Read(func(uintptr) bool {
			again := asked
			asked = true
			return again
		})
		if err == nil {
			fn()
		}
		_ = f.Close()
	}()
	return func() { _ = f.Close() }, nil
}
