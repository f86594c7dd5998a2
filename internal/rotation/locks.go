package rotation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/lockfile"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Locks are the advisory locks of the secrets: one [lockfile] each, held for as
// long as any rotation of this process concerns the secret.
type Locks struct {
	dir string

	mu   sync.Mutex
	held map[string]*heldLock // by path: two secrets may share a file
}

type heldLock struct {
	lock  *lockfile.Lock
	users int
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
	lock, err := lockfile.Try(path, lockfile.Holder{Secret: id.String()})
	if errors.Is(err, lockfile.ErrHeld) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock secret %s: %w", id, err)
	}
	l.held[path] = &heldLock{lock: lock, users: 1}
	return true, nil
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
	_ = h.lock.Unlock() // the kernel has it back in any case
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
