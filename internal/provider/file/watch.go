package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// Watch tells until ctx ends that some file below dir may have changed. Directories that
// are made later are watched from then on. The channel is closed when another directory
// takes the place of dir: the caller watches that.
func Watch(ctx context.Context, dir string) (<-chan struct{}, error) {
	dir = filepath.Clean(dir)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	err = add(w, real)
	if err == nil && real != dir {
		err = w.Add(filepath.Dir(dir)) // where the link may be put anew
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), w.Close())
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer func() { _ = w.Close() }()
		for {
			select {
			case ev, ok := <-w.Events:
				if !ok {
					return
				}
				replaced := ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename)
				switch {
				case real != dir && ev.Name == dir, ev.Name == real && replaced:
					return
				case !filepath.IsLocal(relative(real, ev.Name)):
					continue // a neighbour of the link
				case ev.Has(fsnotify.Create):
					_ = add(w, ev.Name)
				}
			case _, ok := <-w.Errors: // such as a queue that ran over
				if !ok {
					return
				}
			case <-ctx.Done():
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}

func relative(dir, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return ".."
	}
	return rel
}

// add watches a directory and those below it; what is no directory is not an error.
func add(w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		}
		return w.Add(path)
	})
}
