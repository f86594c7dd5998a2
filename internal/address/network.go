package address

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// engineNetworks is where the engine keeps the network namespaces of its containers, as
// files. It is below its exec-root.
const engineNetworks = "/var/run/docker/netns"

// openNetwork opens the network namespace of a process. The pid 0 that the engine
// reports for a stopped container is an error: netlink would take it for "here".
//
// The namespace of a process with other privileges than our own may be opened there with
// CAP_SYS_PTRACE only, with which one may do anything to it. Without, it is looked for
// among those that the engine keeps.
func openNetwork(pid int) (*os.File, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("open network of pid %d: %w", pid, os.ErrInvalid)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, fs.ErrPermission) {
		ns, err = findNetwork(pid)
	}
	if err != nil {
		return nil, fmt.Errorf("open network of pid %d: %w", pid, err)
	}
	return ns, nil
}

// findNetwork returns the namespace in which the files below /proc/<pid>/net are those
// of the process: each namespace has its own.
func findNetwork(pid int) (*os.File, error) {
	const file = "net/dev"
	want, err := inode(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, err
	}
	candidates, err := filepath.Glob(filepath.Join(engineNetworks, "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range append([]string{"/proc/self/ns/net"}, candidates...) {
		ns, err := os.Open(path)
		if err != nil {
			continue // it ended meanwhile
		}
		var got uint64
		err = inside(ns, func() (err error) {
			got, err = inode("/proc/thread-self/" + file)
			return err
		})
		if err == nil && got == want {
			return ns, nil
		}
		_ = ns.Close()
	}
	return nil, fmt.Errorf("it is none of those in %s, and CAP_SYS_PTRACE is missing to open another: %w", engineNetworks, fs.ErrPermission)
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}
