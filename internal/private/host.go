package private

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MountOnHost is [Mount] for an agent in a container that sees the host's processes.
func MountOnHost(dir string) (swappable bool, err error) {
	if Mounted(dir) {
		return false, nil
	}
	err = OnHost(dir, func() (err error) {
		swappable, err = Mount(dir)
		return err
	})
	return swappable, err
}

// OnHost lets mount mount something on dir, for an agent in a container that sees the
// host's processes: where process 1 of the host sees it, and so the engine and dso-runtime.
// Then it is shown here. Whether the host's mounts are shared with the container makes no
// difference.
func OnHost(dir string, mount func() error) error {
	tree, err := mountOnHost(dir, mount)
	if err != nil {
		return fmt.Errorf("mount on the host's %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(tree) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("show the host's %s in the container: %w", dir, err)
	}
	return nil
}

// mountOnHost does the host's part on a thread of its own, which stays in the host's mount
// namespace and is thrown away. It returns a copy of the mount that belongs nowhere yet.
func mountOnHost(dir string, mount func() error) (tree int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot be thrown away. While it is taken, the next one is another.
			defer runtime.UnlockOSThread()
			tree, err = mountOnHost(dir, mount)
			return
		}
		tree, err = onHost(dir, mount)
	}()
	<-done
	return tree, err
}

func onHost(dir string, mount func() error) (tree int, err error) {
	ns, err := os.Open("/proc/1/ns/mnt")
	if err != nil {
		return 0, err
	}
	defer func() { _ = ns.Close() }()
	// A thread that shares its root and working directory with others may not change them.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return 0, fmt.Errorf("enter the host's mount namespace: %w", err)
	}
	if err := mount(); err != nil {
		return 0, err
	}
	tree, err = unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", dir, err)
	}
	return tree, nil
}
