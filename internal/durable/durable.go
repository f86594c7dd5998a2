package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// temporary marks the names of files that are being written.
const temporary = ".tmp-"

// Sweep removes, below dir, what writers that were killed left half written. Only
// the one process that writes there may call it.
func Sweep(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreNotExist(err)
		}
		if d.Type().IsRegular() && strings.HasPrefix(d.Name(), ".") && strings.Contains(d.Name(), temporary) {
			return ignoreNotExist(os.Remove(path))
		}
		return nil
	})
}

// WriteFile replaces path with data: a temporary file in the same directory,
// fsync, rename, fsync of the directory. On an error the old file is untouched
// and no temporary file is left.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+temporary+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreNotExist(os.Remove(f.Name())))
		}
	}()
	if err := fill(f, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, f.Close()))
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(dir)
}

// fill relies on CreateTemp's mode of 0600 and widens it only once the content
// is complete.
func fill(f *os.File, data []byte, mode fs.FileMode) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, errors.Join(err, d.Close()))
	}
	return d.Close()
}

// Remove deletes path durably. A path that does not exist is already removed.
func Remove(path string) error {
	if err := ignoreNotExist(os.Remove(path)); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirPrivate creates dir with the parents it needs, and refuses one that
// others than its owner can enter: what lies in it is not for them.
func MkdirPrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o and must have 0700: chmod 700 %s", dir, perm, dir)
	}
	return nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Rename moves a file within one filesystem, durably.
func Rename(from, to string) error {
	if err := RenameUnsynced(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// RenameUnsynced is [Rename] for whom readers wait: a power cut may undo it until [SyncDir].
func RenameUnsynced(from, to string) error { return os.Rename(from, to) }

// Overwrite replaces the content of an existing file in place, which keeps the
// locks on it. It is neither atomic nor durable: for what only informs people.
func Overwrite(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }
