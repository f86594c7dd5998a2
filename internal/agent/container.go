package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mount is a line of /proc/<pid>/mountinfo, see proc_pid_mountinfo(5).
type mount struct {
	root   string // within its filesystem
	point  string
	fstype string
}

func parseMounts(mountinfo string) []mount {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) == 0 {
			continue
		}
		mounts = append(mounts, mount{unescape.Replace(fields[3]), unescape.Replace(fields[4]), kind[0]})
	}
	return mounts
}

// inContainer reports whether the mounts are those of a container: engines mount
// its hostname, hosts or resolv.conf into each. A file such as /.dockerenv proves
// nothing, it lies in every machine that was made from an image.
func inContainer(mounts []mount) bool {
	for _, m := range mounts {
		switch m.point {
		case "/etc/hostname", "/etc/hosts", "/etc/resolv.conf":
			if strings.Contains(m.root, "containers/") || strings.Contains(m.root, "/kubelet/") {
				return true
			}
		}
	}
	return false
}

// ErrContainer is returned when an agent in a container could not see the locks of
// the agents outside.
var ErrContainer = errors.New("dso-agent runs in a container and does not see the host's locks")

// checkLockDir refuses a lock directory that a container has for itself. What
// cannot be told from a tmpfs or a volume of the container's own is refused too:
// the directory itself, mounted from the host, always can.
func checkLockDir(mountinfo, dir string) error {
	mounts := parseMounts(mountinfo)
	if !inContainer(mounts) {
		return nil
	}
	var on mount
	for _, m := range mounts {
		// Of two on one place, the later one is on top.
		if len(m.point) >= len(on.point) && (m.point == "/" || dir == m.point || strings.HasPrefix(dir, m.point+"/")) {
			on = m
		}
	}
	why := ""
	switch {
	case on.point == "" || on.point == "/":
		why = "the container's own file system"
	case on.fstype == "tmpfs" && on.root == "/":
		why = "a tmpfs on " + on.point
	case strings.Contains(on.root, "/volumes/") && strings.HasSuffix(on.root, "/_data"):
		why = "a volume on " + on.point
	default:
		return nil
	}
	return fmt.Errorf("%w: %s is on %s; start it with -v %s:%s", ErrContainer, dir, why, dir, dir)
}

// checkContainer is [checkLockDir] for this process.
func checkContainer(dir string) error {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("see whether this is a container: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("open lock directory: %w", err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return fmt.Errorf("open lock directory: %w", err)
	}
	return checkLockDir(string(mountinfo), real)
}
