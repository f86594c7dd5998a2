package agent

import (
	"context"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// The pauses after a store has told of a change, before it is believed again. One that tells all
// the time is looked at every lastTellPause.
const (
	firstTellPause = 250 * time.Millisecond
	lastTellPause  = 5 * time.Second
)

// follow tells when a store says that something changed, until ctx ends. While there
// is nothing to watch it looks for it again. It says so, once, when the store never stops telling.
func follow(ctx context.Context, w provider.Watcher, tell, restless func()) {
	const again = 5 * time.Second
	restless = sync.OnceFunc(restless)
	for ctx.Err() == nil {
		changed, err := w.Watch(ctx)
		if err != nil {
			pause(ctx, again)
			continue
		}
		wait := firstTellPause
		for told := true; told; { // at first, what happened before the watch stood
			tell()
			pause(ctx, wait)
			select {
			case _, told = <-changed: // while nobody listened
				if wait = min(2*wait, lastTellPause); wait == lastTellPause {
					restless()
				}
			default:
				wait = firstTellPause
				_, told = <-changed
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
