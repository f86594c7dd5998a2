package file

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How long a read waits for whoever is writing the file, and how often it looks. Who has
// written nothing for a while only has the file open.
const (
	patience = 2 * time.Second
	glance   = 20 * time.Millisecond
	stillFor = time.Minute
)

// errWriting is worth another try: half a value is worse than a late one.
var errWriting = errors.New("somebody has the file open for writing: write another beside it and rename that")

// written waits until nobody has the file open for writing.
func written(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errWriting)
	defer cancel()
	for {
		busy, err := writing(f)
		if err != nil || !busy {
			return err
		}
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// writing reports whether somebody has the file open for writing, and uses it: then the
// kernel refuses a lease on it. It knows nothing of one that belongs to another user, or
// of a file system without leases; such a file is taken as it is.
func writing(f *os.File) (busy bool, err error) {
	st, err := f.Stat()
	if err != nil || time.Since(st.ModTime()).Abs() > stillFor {
		return false, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	err = raw.Control(func(fd uintptr) {
		_, failed := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
		busy = errors.Is(failed, unix.EAGAIN)
		if failed == nil {
			_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	return busy, err
}
