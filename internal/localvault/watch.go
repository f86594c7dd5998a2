package localvault

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// Watch tells when any secret of the vault changed, whichever process changed
// it. Changes that come faster than they are received make one signal, and a
// change after a receive always makes another. The channel is closed when ctx
// ends or when the directory can no longer be watched (it was removed).
func (v *Vault) Watch(ctx context.Context) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch vault %s: %w", v.dir, err)
	}
	if err := w.Add(v.secrets()); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("watch vault %s: %w", v.dir, err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer func() { _ = w.Close() }()
		v.relay(ctx, w, changed)
	}()
	return changed, nil
}

// relay turns file events into signals until ctx ends or the directory goes.
func (v *Vault) relay(ctx context.Context, w *fsnotify.Watcher, changed chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.Events:
			if !ok || (ev.Name == v.secrets() && ev.Has(fsnotify.Remove|fsnotify.Rename)) {
				return
			}
			if !isSecretFile(ev.Name) {
				continue
			}
		case _, ok := <-w.Errors:
			// An overflow means that events were lost: a signal covers them.
			if !ok {
				return
			}
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// isSecretFile leaves out the temporary files of writers.
func isSecretFile(file string) bool {
	base := filepath.Base(file)
	return !strings.HasPrefix(base, ".") && strings.HasSuffix(base, suffix)
}
