package lockfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Holder is what a lock file tells about its holder.
type Holder struct {
	PID       int       `json:"pid"`
	StartTime time.Time `json:"start_time"` // when the lock was taken
	BootID    string    `json:"boot_id"`
	Secret    string    `json:"secret,omitempty"` // what a rotation's lock is of
	Agent     string    `json:"agent,omitempty"`  // what an agent's own lock is of
}

// File is what lies under the name of a lock.
type File struct {
	Holder
	Path string
	// Held says that somebody has the lock: the kernel's word.
	Held bool
	// Alive says that there is a process with the holder's pid, SameBoot that the
	// holder took the lock since the host booted.
	Alive, SameBoot bool
	// Note says what is odd about the file; empty: nothing.
	Note string
}

// maxFile bounds what is read of a lock file, in bytes.
const maxFile = 4096

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

// Look reads a lock file and asks the kernel whether anybody holds it. With an
// error that is not [fs.ErrNotExist] the result is usable.
//
// For that it takes the lock for a moment, shared: whoever tries it meanwhile is
// told that somebody has it.
func Look(path string) (File, error) {
	lf := File{Path: path}
	f, err := open(path)
	if err != nil {
		return lf, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	lf.Held = errors.Is(err, unix.EWOULDBLOCK)
	err = lf.read(f)
	return lf, err
}

// Read is [Look] for a lock that is known to be held: it does not ask the kernel.
func Read(path string) (File, error) {
	lf := File{Path: path, Held: true}
	f, err := open(path)
	if err != nil {
		return lf, err
	}
	defer func() { _ = f.Close() }()
	err = lf.read(f)
	return lf, err
}

func (lf *File) read(f *os.File) error {
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return err
	}
	lf.Holder, err = ParseHolder(bytes.TrimRight(data, "\x00"))
	lf.Alive = lf.PID > 0 && processExists(lf.PID)
	lf.SameBoot = lf.BootID != "" && lf.BootID == bootID()
	return err
}

// open opens a regular file without following a link, and without waiting for the
// other end of a pipe.
func open(path string) (*os.File, error) {
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

// Sweep removes what lies under the name of a lock unless somebody has it: files
// that the dead left, and what never was one. A directory that is not empty is
// moved aside.
func Sweep(path string, now time.Time) (gone bool, err error) {
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
	f, err := open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	locked, named, err := flock(f)
	if err != nil || !locked || !named {
		return false, err
	}
	return true, os.Remove(path) // while it is locked
}
