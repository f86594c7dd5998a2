package agent

import (
	"context"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// follow tells when a store says that something changed, until ctx ends. While there
// is nothing to watch it looks for it again.
func follow(ctx context.Context, w provider.Watcher, tell func()) {
	const again = 5 * time.Second
	for ctx.Err() == nil {
		changed, err := w.Watch(ctx)
		if err != nil {
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
			continue
		}
		tell() // what happened before the watch stood
		for range changed {
			tell()
		}
	}
}
