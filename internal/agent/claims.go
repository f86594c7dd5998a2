package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/lockfile"
)

// ErrSecondAgent is returned when another agent has what this one needs for
// itself. The error is a [*SecondAgentError].
var ErrSecondAgent = errors.New("another agent is running")

// SecondAgentError says what two agents cannot share, and who has it.
type SecondAgentError struct {
	What   string // "state directory /var/lib/dso"
	Holder lockfile.File
}

func (e *SecondAgentError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("%v: it has the %s (lock file %s: %s)", ErrSecondAgent, e.What, e.Holder.Path, e.Holder.Note)
	}
	who := fmt.Sprintf("pid %d", e.Holder.PID)
	if !e.Holder.StartTime.IsZero() {
		who += " since " + e.Holder.StartTime.UTC().Format(time.RFC3339)
	}
	if !e.Holder.Alive {
		who += " (as its own container numbers it)"
	}
	return fmt.Sprintf("%v: %s has the %s", ErrSecondAgent, who, e.What)
}

// Is makes the error an [ErrSecondAgent].
func (e *SecondAgentError) Is(target error) bool { return target == ErrSecondAgent }

// Hint says what can be done about it.
func (e *SecondAgentError) Hint() string {
	return "systemctl status dso-agent shows the host's own agent; with --standby this one waits until the other is gone"
}

// errNotClaimed is why nothing is changed in an engine. To a rotation it is as if
// the engine were away.
var errNotClaimed = fmt.Errorf("the engine is not this agent's yet: %w", errdefs.ErrUnavailable)

// standbyPoll is how often a standby tries: it has to take over within a second of
// the other's death.
const standbyPoll = 100 * time.Millisecond

// claims are the agent's own locks, taken in this order: the state directory, the
// run directory, the engine. The last one is taken when the engine says who it is,
// and until then nothing is changed in it.
type claims struct {
	dir string // of the engines' locks
	// standBy is told who has it when this agent begins to wait; nil: it does not
	// wait.
	standBy func(*SecondAgentError)

	mu       sync.Mutex
	locks    []*lockfile.Lock // of the directories
	engine   *lockfile.Lock
	identity engine.Identity // of the engine that is locked
	mine     bool            // the engine that answers now is the one that is locked
}

// take takes a lock; what says in words what it is of.
func (c *claims) take(ctx context.Context, what, path string, wait bool) (*lockfile.Lock, error) {
	self := lockfile.Holder{Agent: what}
	lock, err := lockfile.Try(path, self)
	if !errors.Is(err, lockfile.ErrHeld) {
		return lock, err
	}
	other := &SecondAgentError{What: what}
	if other.Holder, err = lockfile.Read(path); err != nil {
		other.Holder.Note = err.Error()
	}
	if !wait || c.standBy == nil {
		return nil, other
	}
	c.standBy(other)
	return lockfile.Wait(ctx, path, self, standbyPoll)
}

// takeDirs takes the directories, which must exist. The names differ, should the
// two be one.
func (c *claims) takeDirs(ctx context.Context, state, run string) error {
	for _, d := range []struct{ what, path string }{
		{"state directory " + state, filepath.Join(state, "agent.lock")},
		{"run directory " + run, filepath.Join(run, "run.lock")},
	} {
		lock, err := c.take(ctx, d.what, d.path, true)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.locks = append(c.locks, lock)
		c.mu.Unlock()
	}
	return nil
}

// takeEngine takes the engine, and gives back the one before when it is another.
// From then on it may be changed.
func (c *claims) takeEngine(ctx context.Context, id engine.Identity, wait bool) error {
	c.mu.Lock()
	have := c.engine != nil && c.identity == id
	c.mu.Unlock()
	var lock *lockfile.Lock
	if !have {
		var err error
		if lock, err = c.take(ctx, "engine "+id.String(), engineLock(c.dir, id), wait); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mine = true
	if have {
		return nil
	}
	before := c.engine
	c.engine, c.identity = lock, id
	return before.Unlock()
}

func engineLock(dir string, id engine.Identity) string {
	sum := sha256.Sum256([]byte(id.ID + "\x00" + id.DataRoot))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".lock")
}

// engineGone is the end of a connection: what answers next may be another engine.
func (c *claims) engineGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mine = false
}

// mayChange is asked before everything that changes something in the engine.
func (c *claims) mayChange() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mine {
		return errNotClaimed
	}
	return nil
}

// held returns the paths of the locks that are held.
func (c *claims) held() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var paths []string
	for _, l := range append(c.locks[:len(c.locks):len(c.locks)], c.engine) {
		if l != nil {
			paths = append(paths, l.Path())
		}
	}
	return paths
}

// release gives everything back, the last one first.
func (c *claims) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mine = false
	err := c.engine.Unlock()
	for i := len(c.locks) - 1; i >= 0; i-- {
		err = errors.Join(err, c.locks[i].Unlock())
	}
	c.engine, c.locks = nil, nil
	return err
}

// openLockDir makes the directory of the engines' locks. Everybody may write to
// /run/lock on some systems: a directory that somebody else has made there is
// theirs to fill with traps.
func openLockDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create lock directory: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("open lock directory: %w", err)
	}
	owner, known := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("lock directory %s is no directory: %s", dir, st.Mode().Type())
	case known && int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("lock directory %s belongs to user %d and must belong to the agent's: remove it", dir, owner.Uid)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("lock directory %s has mode %#o and others may write there: chmod 755 %s", dir, st.Mode().Perm(), dir)
	}
	return nil
}
