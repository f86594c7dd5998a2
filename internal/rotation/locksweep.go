package rotation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// SweepLocks removes the lock files in dir that nobody holds: an agent that died
// left them, and they mean nothing.
func SweepLocks(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.lock"))
	for _, path := range paths {
		if sweepErr := sweepLock(path); sweepErr != nil {
			err = errors.Join(err, fmt.Errorf("sweep lock %s: %w", path, sweepErr))
		}
	}
	return err
}

func sweepLock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	free, err := lockFile(f)
	if err != nil || !free {
		return err
	}
	return os.Remove(path) // while it is locked
}
