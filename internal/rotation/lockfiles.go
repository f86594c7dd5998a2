package rotation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// LockFile is what lies under the name of a lock.
type LockFile struct {
	Holder
	Path string
	// Held says that somebody has the lock: the kernel's word. Without it the file
	// means nothing, whatever it says.
	Held bool
	// Alive says that there is a process with the holder's pid, SameBoot that the
	// holder took the lock since the host booted.
	Alive, SameBoot bool
	// Note says what is odd about the file; empty: nothing.
	Note string
}

// maxLockFile bounds what is read of a lock file, in bytes.
const maxLockFile = 4096

// maxPID is Linux's greatest process id (PID_MAX_LIMIT, proc(5)).
const maxPID = 1 << 22

// ParseHolder understands the content of a lock file: ours, and what other
// programs and versions leave, which is a process id in decimal, alone or as a
// member "pid" of a JSON object.
func ParseHolder(data []byte) (Holder, error) {
	var h Holder
	text := strings.TrimSpace(string(data))
	if text == "" {
		return h, errors.New("it is empty")
	}
	if pid, err := strconv.Atoi(text); err == nil {
		return holderOf(Holder{PID: pid})
	}
	if err := json.Unmarshal([]byte(text), &h); err == nil {
		return holderOf(h)
	}
	var foreign struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(text), &foreign); err != nil {
		return Holder{}, errors.New("it does not say who made it")
	}
	return holderOf(Holder{PID: foreign.PID})
}

func holderOf(h Holder) (Holder, error) {
	if h.PID < 1 || h.PID > maxPID {
		return Holder{}, errors.New("it names no process")
	}
	return h, nil
}

// Files returns what lies under the names of locks, by name.
func (l *Locks) Files() ([]LockFile, error) {
	names, err := l.names()
	if err != nil {
		return nil, err
	}
	l.mu.Lock() // no lock of our own is being taken while its file is looked at
	defer l.mu.Unlock()
	var files []LockFile
	for _, name := range names {
		f, err := look(filepath.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.Note = err.Error()
		}
		f.Held = f.Held || l.held[f.Path] != nil
		files = append(files, f)
	}
	return files, nil
}

func (l *Locks) names() ([]string, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// look reads a lock file and asks the kernel whether anybody holds it.
func look(path string) (LockFile, error) {
	lf := LockFile{Path: path}
	f, err := openLock(path)
	if err != nil {
		return lf, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	lf.Held = errors.Is(err, unix.EWOULDBLOCK)
	data, err := io.ReadAll(io.LimitReader(f, maxLockFile))
	if err != nil {
		return lf, err
	}
	lf.Holder, err = ParseHolder(bytes.TrimRight(data, "\x00"))
	lf.Alive = lf.PID > 0 && processExists(lf.PID)
	lf.SameBoot = lf.BootID != "" && lf.BootID == bootID()
	if lf.Secret == "" {
		lf.Secret = strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".lock"), "~", "/")
	}
	return lf, err
}

// openLock opens a regular file without following a link, and without waiting
// for the other end of a pipe.
func openLock(path string) (*os.File, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("it is no file: %s", st.Mode().Type())
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

func processExists(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// Sweep removes what lies under the names of locks and nobody holds: lock files of
// agents that died, of other versions, and what never was one. A directory that is
// not empty is moved aside. It returns what it removed.
func (l *Locks) Sweep(now time.Time) ([]LockFile, error) {
	files, err := l.Files()
	if err != nil {
		return nil, err
	}
	var swept []LockFile
	var errs []error
	for _, lf := range files {
		gone, err := l.sweep(lf.Path, now)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep lock %s: %w", lf.Path, err))
		}
		if gone {
			swept = append(swept, lf)
		}
	}
	return swept, errors.Join(errs...)
}

func (l *Locks) sweep(path string, now time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[path] != nil {
		return false, nil
	}
	st, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	if st.IsDir() {
		if os.Remove(path) == nil {
			return true, nil
		}
		return true, durable.Rename(path, fmt.Sprintf("%s.swept-%d", path, now.Unix()))
	}
	if !st.Mode().IsRegular() {
		return true, os.Remove(path)
	}
	f, err := openLock(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	free, err := lockFile(f)
	if err != nil || !free {
		return false, err
	}
	return true, os.Remove(path) // while it is locked
}
