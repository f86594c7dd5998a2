package testengine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const closeTimeout = 30 * time.Second

// Close ends everything that belongs to the engine and removes it. It may be
// called twice; the second call returns what the first did.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() { e.closeErr = e.tearDown() })
	return e.closeErr
}

// tearDown does not ask the daemon to stop: it may be hung, and nothing of its
// state is wanted any more. It needs nothing but the names, so that another
// process can do it for an owner that died.
func (e *Engine) tearDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if e.api != nil {
		e.api.CloseIdleConnections()
	}
	// The daemon goes first, or it would restart what is killed next.
	e.daemon.kill()
	errs := []error{e.killAll(ctx)}
	e.holder.kill()
	for _, ns := range []string{e.name, e.client} {
		if !exists(netnsPath(ns)) {
			continue
		}
		if out, err := exec.CommandContext(ctx, "ip", "netns", "delete", ns).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("delete network namespace %s: %w: %s", ns, err, out))
		}
	}
	errs = append(errs, e.removeControlGroups(ctx), e.removeDir(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close private engine %s: %w", e.name, err)
	}
	return nil
}

// killAll kills what lives in the namespaces or control groups, again until
// nothing does: what is killed may just have forked.
func (e *Engine) killAll(ctx context.Context) error {
	id := e.identity()
	defer id.release()
	var left []int
	err := poll(ctx, func() (bool, error) {
		left = left[:0]
		for _, pid := range processes() {
			if id.owns(pid) {
				left = append(left, pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("kill processes %v: %w", left, err)
	}
	return nil
}

// identity recognises the processes of one engine.
type identity struct {
	cgroup     string
	namespaces map[string]bool // as /proc/<pid>/ns/* name them
	// held keeps the namespaces: the number of one that ended is given to the next one
	// that is made, by whomever.
	held *[]*os.File
}

func (id identity) release() {
	for _, f := range *id.held {
		_ = f.Close()
	}
}

func (id identity) hold(path string) {
	if f, err := os.Open(path); err == nil {
		*id.held = append(*id.held, f)
	}
}

func (e *Engine) identity() identity {
	id := identity{cgroup: "/" + e.name, namespaces: map[string]bool{}, held: new([]*os.File)}
	// Namespace links of a process look like "net:[4026532287]", and the inode
	// of a namespace's file is that number.
	for _, name := range []string{e.name, e.client} {
		var st syscall.Stat_t
		id.hold(netnsPath(name))
		if syscall.Stat(netnsPath(name), &st) == nil {
			id.namespaces[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
	}
	if e.holder.running() {
		id.hold(fmt.Sprintf("/proc/%d/ns/mnt", e.holder.pid()))
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", e.holder.pid())); err == nil {
			id.namespaces[ns] = true
		}
	}
	// Until it has come to unshare, the holder is in the machine's own mount
	// namespace, which must never count as the engine's.
	if own, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		delete(id.namespaces, own)
	}
	if own, err := os.Readlink("/proc/self/ns/net"); err == nil {
		delete(id.namespaces, own)
	}
	return id
}

// owns reports whether a living process is one of the engine's.
func (id identity) owns(pid int) bool {
	proc := fmt.Sprintf("/proc/%d", pid)
	for _, kind := range []string{"net", "mnt"} {
		if ns, err := os.Readlink(proc + "/ns/" + kind); err == nil && id.namespaces[ns] {
			return alive(pid)
		}
	}
	content, _ := os.ReadFile(proc + "/cgroup")
	for line := range strings.Lines(string(content)) {
		_, path, _ := strings.Cut(line, ":/")
		path = "/" + strings.TrimSpace(path)
		if path == id.cgroup || strings.HasPrefix(path, id.cgroup+"/") {
			return alive(pid)
		}
	}
	return false
}

func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive is false for a zombie: its parent may be slow to collect it, and it
// holds nothing any more.
func alive(pid int) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The command's name may contain anything; the state follows the last ")".
	_, state, ok := strings.Cut(string(content[strings.LastIndexByte(string(content), ')'):]), ") ")
	return ok && state[0] != 'Z' && state[0] != 'X'
}

// controlGroups are the engine's directories in every hierarchy.
func (e *Engine) controlGroups() []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + e.name)
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + e.name)
	return append(v1, v2...)
}

// removeControlGroups retries, because a group is busy for a moment after its
// last process ended.
func (e *Engine) removeControlGroups(ctx context.Context) error {
	err := poll(ctx, func() (bool, error) {
		for _, top := range e.controlGroups() {
			var dirs []string
			_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for i := len(dirs) - 1; i >= 0; i-- {
				_ = os.Remove(dirs[i])
			}
		}
		return len(e.controlGroups()) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("remove control groups: %w", err)
	}
	return nil
}

// removeDir retries, because the last mount goes a moment after the last
// process of the mount namespace.
func (e *Engine) removeDir(ctx context.Context) error {
	var last error
	err := poll(ctx, func() (bool, error) {
		last = os.RemoveAll(e.dir)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("remove directory: %w", last)
	}
	return nil
}
