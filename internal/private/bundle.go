package private

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bundle is a directory for one rewritten configuration. It is locked while its
// maker lives, so that what a killed one left can be told from what is in use.
type Bundle struct {
	Dir  string
	lock *os.File
}

// NewBundle makes a directory below the private root, which must be mounted: a
// value never reaches a disk.
func NewBundle(root string) (*Bundle, error) {
	if !Mounted(root) {
		return nil, fmt.Errorf("%s is not the agent's tmpfs in this mount namespace: a value would reach a disk; does dso-agent run beside the engine?", root)
	}
	all, err := lockAll(root, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer func() { _ = all.Close() }()
	dir, err := os.MkdirTemp(Bundles(root), "b-")
	if err != nil {
		return nil, fmt.Errorf("make a private bundle: %w", err)
	}
	lock, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a private bundle: %w", err), os.RemoveAll(dir))
	}
	return &Bundle{Dir: dir, lock: lock}, nil
}

// Write writes one file of the bundle and returns its path.
func (b *Bundle) Write(name string, data []byte) (string, error) {
	path := filepath.Join(b.Dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write a private bundle: %w", err)
	}
	return path, nil
}

// Remove deletes the bundle.
func (b *Bundle) Remove() error {
	return errors.Join(os.RemoveAll(b.Dir), b.lock.Close())
}

// lockAll keeps bundles from being made while others are swept: between its making
// and its locking a bundle looks like one whose maker was killed.
func lockAll(root string, how int) (*os.File, error) {
	all, err := os.Open(Bundles(root))
	if err == nil {
		err = unix.Flock(int(all.Fd()), how)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the private bundles: %w", err)
	}
	return all, nil
}

// SweepBundles deletes the bundles whose makers were killed.
func SweepBundles(root string) error {
	all, err := lockAll(root, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }()
	dirs, err := filepath.Glob(filepath.Join(Bundles(root), "b-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := sweep(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sweep %s: %w", dir, err)
		}
	}
	return nil
}

func sweep(dir string) error {
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return nil // in use
	}
	return os.RemoveAll(dir)
}
