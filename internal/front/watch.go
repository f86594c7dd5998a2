package front

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watch sends on the returned channel, without ever blocking, whenever a file
// in dir is put in place or removed. Stop ends it. A missed change costs no more
// than one cycle: the map is loaded in every one.
func watch(dir string) (changed <-chan struct{}, stop func() error, err error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	const events = unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, dir, events|unix.IN_ONLYDIR); err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", dir, errors.Join(err, f.Close()))
	}
	c := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(f, c)
	}()
	return c, func() error { err := f.Close(); <-done; return err }, nil
}

// relay reads until the file is closed. It only notices that something happened:
// a spare cycle when a temporary file goes is cheaper than a parser for events.
func relay(f *os.File, c chan<- struct{}) {
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
		select {
		case c <- struct{}{}:
		default: // one is waiting already
		}
	}
}
