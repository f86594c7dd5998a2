package address

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/durable"
)

// ErrKey says that a key cannot name a front.
var ErrKey = errors.New("not a front's key")

// Fronts is the directory of all fronts of a host: one directory with one map
// for each. The methods may be called concurrently; one process at a time.
type Fronts struct {
	dir string
	mu  sync.Mutex
}

// New returns the fronts in dir, which need not exist.
func New(dir string) *Fronts { return &Fronts{dir: dir} }

// Prepare makes the directory of a front, which may then be mounted before there
// is a map in it, and returns its path. The directory is open to read for
// everyone: it holds nothing secret, and the engine may have made it for a mount.
func (f *Fronts) Prepare(key string) (dir string, err error) {
	dir, err = f.Dir(key)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("prepare front %s: %w", key, err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), durable.SyncDir(f.dir)); err != nil {
		return "", fmt.Errorf("prepare front %s: %w", key, err)
	}
	return dir, nil
}

// Dir is what to mount into the front of that key, read-only.
func (f *Fronts) Dir(key string) (string, error) {
	if err := validKey(key); err != nil {
		return "", err
	}
	return filepath.Join(f.dir, key), nil
}

// Switch orders the front to send new connections to targets: container names or
// short ids, in any order; none means to refuse. It returns the generation to
// wait for. An order that stands already keeps its generation. The front sees the order when
// this returns; it survives a power cut after [Fronts.Settle].
//
// A map that cannot be understood is replaced: the front has refused it as well, and
// keeps what it has. Which generation that is nobody knows, but the clock is ahead of
// all that were counted.
func (f *Fronts) Switch(key string, targets []string) (generation uint64, err error) {
	dir, err := f.Dir(key)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := frontmap.Load(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, frontmap.ErrInvalid) {
		return 0, fmt.Errorf("switch %s: %w", key, err)
	}
	m := following(old, targets)
	if err == nil && slices.Equal(old.Targets, m.Targets) {
		if err := frontmap.Withdraw(dir); err != nil {
			return 0, fmt.Errorf("switch %s: %w", key, err)
		}
		return old.Generation, nil
	}
	if errors.Is(err, frontmap.ErrInvalid) {
		m.Generation = uint64(time.Now().Unix()) //nolint:gosec // after 1970
	}
	if next, err := frontmap.LoadNext(dir); err == nil && next.Generation == m.Generation && slices.Equal(next.Targets, m.Targets) {
		err = frontmap.Advance(dir)
		if err != nil {
			err = fmt.Errorf("switch %s: %w", key, err)
		}
		return m.Generation, err
	}
	if _, err := f.Prepare(key); err != nil {
		return 0, err
	}
	if err := errors.Join(frontmap.Store(dir, m), frontmap.Withdraw(dir)); err != nil {
		return 0, fmt.Errorf("switch %s: %w", key, err)
	}
	return m.Generation, nil
}

// Settle makes the last order to a front durable, if there was one.
func (f *Fronts) Settle(key string) error {
	dir, err := f.Dir(key)
	if err != nil {
		return err
	}
	if err := frontmap.Settle(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle %s: %w", key, err)
	}
	return nil
}

// Announce says what a front will be switched to soon, if all goes well. It finds out
// meanwhile where that is, so that [Fronts.Switch] to exactly these targets takes effect
// faster; nothing else depends on it.
func (f *Fronts) Announce(key string, targets []string) error {
	dir, err := f.Dir(key)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := frontmap.Load(dir)
	if m := following(old, targets); err == nil && !slices.Equal(old.Targets, m.Targets) {
		err = frontmap.Announce(dir, m)
	}
	if err != nil {
		return fmt.Errorf("announce to %s: %w", key, err)
	}
	return nil
}

// following is the map after another, with these targets in any order.
func following(old frontmap.Map, targets []string) frontmap.Map {
	want := slices.Clone(targets)
	slices.Sort(want)
	return frontmap.Map{Format: frontmap.Format, Generation: old.Generation + 1, Targets: slices.Compact(want)}
}

// Targets returns the standing order, sorted; none when there is no order, or none
// that can be understood.
func (f *Fronts) Targets(key string) ([]string, error) {
	dir, err := f.Dir(key)
	if err != nil {
		return nil, err
	}
	m, err := frontmap.Load(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, frontmap.ErrInvalid) {
		return nil, fmt.Errorf("targets of %s: %w", key, err)
	}
	return m.Targets, nil
}

// Keys lists the fronts that have a directory, sorted.
func (f *Fronts) Keys() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list fronts: %w", err)
	}
	var keys []string
	for _, e := range entries {
		if e.IsDir() && validKey(e.Name()) == nil {
			keys = append(keys, e.Name())
		}
	}
	return keys, nil
}

// Remove forgets a front whose container is gone. A front that still runs would
// keep its mount of the old directory, and generations start from 1 again.
func (f *Fronts) Remove(key string) error {
	dir, err := f.Dir(key)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove front %s: %w", key, err)
	}
	if err := durable.SyncDir(f.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove front %s: %w", key, err)
	}
	return nil
}

func validKey(key string) error {
	ok := key != "" && key[0] != '.' && len(key) <= 200
	for _, c := range []byte(key) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: %q", ErrKey, key)
	}
	return nil
}
