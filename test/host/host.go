package testhost

import (
	"bytes"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed boot.sh
var bootScript string

// Host is one test host. It is off until [Host.Boot].
type Host struct {
	name string
	dir  string // its disk
	base string // the directories below it, as overlayfs takes them

	init *exec.Cmd // the process that the namespaces' first process is a child of
	pid  int       // of systemd, as the machine numbers it
	done chan struct{}
}

const (
	bootTimeout = 60 * time.Second
	offTimeout  = 90 * time.Second
	pause       = 20 * time.Millisecond
	waitDelay   = 5 * time.Second
)

// New makes a host with the disk of a base system, the directory of one.
func New(base string) (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make test host: root is needed for namespaces")
	}
	if _, err := os.Stat(filepath.Join(base, "lib/systemd/systemd")); err != nil {
		return nil, fmt.Errorf("make test host: %s is no base system: %w", base, err)
	}
	return newDisk(base)
}

// Fork makes a host whose disk begins as a copy of this one's, which must be off and be
// kept until the copy is closed.
func (h *Host) Fork() (*Host, error) {
	if h.init != nil {
		return nil, fmt.Errorf("copy %s: it is on", h.name)
	}
	f, err := newDisk(filepath.Join(h.dir, "upper") + ":" + h.base)
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("cp", "-a", h.dir+"/docker/.", f.dir+"/docker/").CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s: %w: %s", h.name, err, out), f.Close())
	}
	return f, nil
}

func newDisk(base string) (*Host, error) {
	dir, err := os.MkdirTemp("", "dso-host-")
	if err != nil {
		return nil, fmt.Errorf("make test host: %w", err)
	}
	h := &Host{name: filepath.Base(dir), dir: dir, base: base}
	for _, sub := range []string{"upper", "work", "root", "docker"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return h, nil
}

// controlGroups are the host's directories in every hierarchy.
func (h *Host) controlGroups() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{filepath.Join("/sys/fs/cgroup", h.name)}
	}
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*")
	var dirs []string
	for _, d := range hierarchies {
		dirs = append(dirs, filepath.Join(d, h.name))
	}
	return dirs
}

// enter is what a shell does to be the host's before it makes the namespaces: a control
// group in every hierarchy, and in the one of processors what a child may not inherit.
const enter = `set -e
for dir in $DSO_CGROUPS; do
	mkdir -p "$dir"
	case $dir in */cpuset/*)
		cat "$(dirname "$dir")/cpuset.cpus" > "$dir/cpuset.cpus"
		cat "$(dirname "$dir")/cpuset.mems" > "$dir/cpuset.mems" ;;
	esac
	echo $$ > "$dir/cgroup.procs"
done
exec unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child sh -c "$1" sh "$2" "$3"
`

// Boot switches the host on and returns when systemd runs the units it shall.
func (h *Host) Boot(ctx context.Context) error {
	if err := h.SwitchOn(ctx); err != nil {
		return err
	}
	var state string
	err := h.until(ctx, bootTimeout, func() bool {
		state, _ = h.Run(ctx, "systemctl", "is-system-running")
		state = strings.TrimSpace(state)
		return state == "running" || state == "degraded"
	})
	if err != nil {
		return fmt.Errorf("boot %s: %w: it is %s", h.name, err, state)
	}
	return nil
}

// SwitchOn starts the host's systemd and returns when it can be asked something.
func (h *Host) SwitchOn(ctx context.Context) error {
	if h.init != nil {
		return fmt.Errorf("boot %s: it is on", h.name)
	}
	log, err := os.OpenFile(filepath.Join(h.dir, "boot.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("sh", "-c", enter, "sh", bootScript, h.base, h.dir)
	cmd.Env = append(os.Environ(), "DSO_CGROUPS="+strings.Join(h.controlGroups(), " "))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot %s: %w", h.name, err)
	}
	h.init, h.pid, h.done = cmd, 0, make(chan struct{})
	done := h.done
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	err = h.until(ctx, bootTimeout, func() bool {
		if h.pid == 0 {
			// Before that, the shell has children of its own.
			if pid := child(cmd.Process.Pid); comm(pid) == "systemd" {
				h.pid = pid
			}
		}
		if h.pid == 0 {
			return false
		}
		_, err := h.Run(ctx, "systemctl", "show", "--property", "Version")
		return err == nil
	})
	if err != nil {
		said, _ := os.ReadFile(filepath.Join(h.dir, "boot.log"))
		return errors.Join(fmt.Errorf("boot %s: %w: %s", h.name, err, said), h.CutPower())
	}
	return nil
}

// child returns the one child of a process, 0 when there is none.
func child(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

func (h *Host) until(ctx context.Context, timeout time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-h.done:
			return errors.New("it went off")
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", timeout, ctx.Err())
		}
	}
	return nil
}

// CutPower ends the host as a power cut does: everything in it dies at once.
func (h *Host) CutPower() error {
	if h.init == nil {
		return nil
	}
	pid := h.pid
	if pid == 0 {
		pid = h.init.Process.Pid // its end is its child's: --kill-child
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cut power of %s: %w", h.name, err)
	}
	return h.wentOff()
}

// ShutDown ends the host as systemctl poweroff does.
func (h *Host) ShutDown() error {
	if h.init == nil {
		return nil
	}
	const halt = syscall.Signal(34 + 3) // SIGRTMIN+3, see systemd(1)
	if err := syscall.Kill(h.pid, halt); err != nil {
		return fmt.Errorf("shut down %s: %w", h.name, err)
	}
	return h.wentOff()
}

func (h *Host) wentOff() error {
	select {
	case <-h.done:
	case <-time.After(offTimeout):
		return fmt.Errorf("%s is still on after %s", h.name, offTimeout)
	}
	h.init, h.pid = nil, 0
	return h.removeControlGroups()
}

// removeControlGroups retries, because a group is busy for a moment after its last
// process.
func (h *Host) removeControlGroups() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := 0
		for _, top := range h.controlGroups() {
			var dirs []string
			_ = filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for i := len(dirs) - 1; i >= 0; i-- {
				_ = os.Remove(dirs[i])
			}
			if _, err := os.Stat(top); err == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("control groups of %s stay", h.name)
		}
		time.Sleep(pause)
	}
}

// Close ends the host and removes every trace.
func (h *Host) Close() error {
	err := h.CutPower()
	return errors.Join(err, os.RemoveAll(h.dir))
}

// PID is systemd's process, as the machine numbers it.
func (h *Host) PID() int { return h.pid }

// Command is a command to be run on the host, which must be on.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	nsenter := []string{"--target", strconv.Itoa(h.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--", "env", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(nsenter, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "USER=root", "DEBIAN_FRONTEND=noninteractive"}
	cmd.WaitDelay = waitDelay
	return cmd
}

// Run runs a command on the host and returns its output, both streams; an error carries
// the output too.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Path is where a file of the running host lies on the machine.
func (h *Host) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.pid, path) }

// Copy copies a file of the machine to the host.
func (h *Host) Copy(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(h.Path(to)), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(h.Path(to), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Write writes a file of the host.
func (h *Host) Write(path, content string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(h.Path(path)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(h.Path(path), []byte(content), mode)
}
