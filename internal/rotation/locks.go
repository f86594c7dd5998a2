package rotation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Locks are the advisory locks of the secrets: one file each, locked with flock
// for as long as any rotation of this process concerns the secret. The kernel
// drops the lock when its holder dies, so there is no such thing as a stale one;
// the file's content only tells people who holds it.
type Locks struct {
	dir string

	mu   sync.Mutex
	held map[string]*heldLock // by path: two secrets may share a file
}

type heldLock struct {
	file  *os.File
	users int
}

// Holder is what a lock file tells about its holder.
type Holder struct {
	PID       int       `json:"pid"`
	StartTime time.Time `json:"start_time"` // when the lock was taken
	BootID    string    `json:"boot_id"`
	Secret    string    `json:"secret,omitempty"`
}

// NewLocks returns the locks in dir, which must exist.
func NewLocks(dir string) *Locks { return &Locks{dir: dir, held: map[string]*heldLock{}} }

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 50 * time.Millisecond

// Acquire takes the locks of all the secrets, waiting for other processes until
// ctx ends. The returned function gives them back.
func (l *Locks) Acquire(ctx context.Context, ids []secret.ID) (release func(), err error) {
	ids = slices.Clone(ids)
	// One order for everybody: no deadlock.
	slices.SortFunc(ids, func(a, b secret.ID) int { return strings.Compare(l.path(a), l.path(b)) })
	var got []secret.ID
	release = func() {
		for _, id := range got {
			l.release(id)
		}
	}
	for _, id := range ids {
		if err := l.acquire(ctx, id); err != nil {
			release()
			return nil, err
		}
		got = append(got, id)
	}
	return release, nil
}

func (l *Locks) acquire(ctx context.Context, id secret.ID) error {
	for {
		ok, err := l.try(id)
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return fmt.Errorf("lock secret %s: held by another process (%s): %w", id, l.path(id), ctx.Err())
		}
	}
}

func (l *Locks) try(id secret.ID) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.path(id)
	if h := l.held[path]; h != nil {
		h.users++
		return true, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("lock secret %s: %w", id, err)
	}
	locked, err := lockFile(f)
	if err == nil && locked {
		err = describe(f, id)
	}
	if err != nil || !locked {
		return false, errors.Join(err, f.Close())
	}
	l.held[path] = &heldLock{file: f, users: 1}
	return true, nil
}

// lockFile locks f if f still is the file of that name: the holder before
// removes it when done.
func lockFile(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(ours, named), nil
}

func describe(f *os.File, id secret.ID) error {
	data, err := json.Marshal(Holder{PID: os.Getpid(), StartTime: time.Now().UTC(), BootID: bootID(), Secret: id.String()})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(data, '\n'), 0)
	return err
}

func (l *Locks) release(id secret.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.path(id)
	h := l.held[path]
	if h.users--; h.users > 0 {
		return
	}
	delete(l.held, path)
	_ = os.Remove(h.file.Name()) // while it is still locked
	_ = h.file.Close()
}

// maxLockName keeps a lock's name below the 255 bytes of a file's name; a longer
// one ends in a digest of the whole.
const maxLockName = 200

func (l *Locks) path(id secret.ID) string {
	name := id.Path
	if id.Provider != secret.DefaultProvider {
		name = id.Provider + "/" + name
	}
	name = strings.ReplaceAll(name, "/", "~")
	if len(name) > maxLockName {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxLockName] + "~" + hex.EncodeToString(sum[:8])
	}
	return filepath.Join(l.dir, name+".lock")
}
