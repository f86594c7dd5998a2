package lockfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is a lock that this process has.
type Lock struct{ file *os.File }

// ErrHeld is returned when somebody else has the lock.
var ErrHeld = errors.New("somebody else has the lock")

// Try takes the lock at path, in a directory that must exist, and writes who has it
// now: h, as this process from now on. It returns [ErrHeld] when somebody has it.
func Try(path string, h Holder) (*Lock, error) {
	for {
		// No link is followed: the content is overwritten.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		locked, named, err := flock(f)
		if err == nil && locked && named {
			err = describe(f, h)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, f.Close()))
		case locked && named:
			return &Lock{f}, nil
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !locked {
			return nil, ErrHeld
		}
	}
}

// Wait is [Try], again and again until the lock is had or ctx ends.
func Wait(ctx context.Context, path string, h Holder, every time.Duration) (*Lock, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		l, err := Try(path, h)
		if !errors.Is(err, ErrHeld) {
			return l, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w: %w", path, err, ctx.Err())
		}
	}
}

// Path is where the lock lies.
func (l *Lock) Path() string { return l.file.Name() }

// Unlock gives the lock back. A nil lock is none.
func (l *Lock) Unlock() error {
	if l == nil {
		return nil
	}
	err := os.Remove(l.Path()) // while it is still locked
	return errors.Join(err, l.file.Close())
}

// flock locks f, and says whether f still is the file of that name: the holder
// before removes it when done.
func flock(f *os.File) (locked, named bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	ours, err := f.Stat()
	if err != nil {
		return true, false, err
	}
	there, err := os.Lstat(f.Name())
	return true, err == nil && os.SameFile(ours, there), nil
}

func describe(f *os.File, h Holder) error {
	h.PID, h.StartTime, h.BootID = os.Getpid(), time.Now().UTC(), bootID()
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	return err
}
