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
		// A pidfd can be read as soon as the process has ended. It is asked itself each time: the
		// runtime's poller tells of that once, perhaps before this goroutine listens.
		err := raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) //nolint:gosec // a descriptor
			return err == nil && n > 0
		})
		if err == nil {
			fn()
		}
		_ = f.Close()
	}()
	return func() { _ = f.Close() }, nil
}
