package rotation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/lockfile"
)

// Files returns what lies under the names of locks, by name.
func (l *Locks) Files() ([]lockfile.File, error) {
	names, err := l.names()
	if err != nil {
		return nil, err
	}
	l.mu.Lock() // no lock of our own is being taken while its file is looked at
	defer l.mu.Unlock()
	var files []lockfile.File
	for _, name := range names {
		f, err := lockfile.Look(filepath.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.Note = err.Error()
		}
		if f.Secret == "" {
			f.Secret = strings.ReplaceAll(strings.TrimSuffix(name, ".lock"), "~", "/")
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

// Sweep removes what lies under the names of locks and nobody holds: lock files of
// agents that died, of other versions, and what never was one. It returns what it
// removed.
func (l *Locks) Sweep(now time.Time) ([]lockfile.File, error) {
	files, err := l.Files()
	if err != nil {
		return nil, err
	}
	var swept []lockfile.File
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
	return lockfile.Sweep(path, now)
}
