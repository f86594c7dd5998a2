package private

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount makes dir a tmpfs that only root can enter and that is never
// swapped out. An existing tmpfs is kept as it is: mounting another one over it
// would leave running containers on the old one for ever.
//
// Kernels before 6.4 do not know noswap; there the pages may be swapped, and
// swappable is true.
func Mount(dir string) (swappable bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("create %s: %w", dir, err)
	}
	if Mounted(dir) {
		return false, nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err = unix.Mount("dso", dir, "tmpfs", flags, "mode=0700,noswap")
	if errors.Is(err, unix.EINVAL) {
		swappable = true
		err = unix.Mount("dso", dir, "tmpfs", flags, "mode=0700")
	}
	if err != nil {
		return false, fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	return swappable, nil
}

// Mounted reports whether dir is the root of a tmpfs of its own.
func Mounted(dir string) bool {
	var fs unix.Statfs_t
	var here, parent unix.Stat_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
		return false
	}
	if unix.Stat(dir, &here) != nil || unix.Stat(dir+"/..", &parent) != nil {
		return false
	}
	return here.Dev != parent.Dev
}
