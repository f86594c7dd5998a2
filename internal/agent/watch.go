package agent

import (
	"context"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// The pauses after a store has told of a change, before it is listened to again. A burst of
// changes is heard of to its end, for longer than a rotation waits for that; the pauses grow when
// there is none, up to lastTellPause.
const (
	firstTellPause = 50 * time.Millisecond
	lastTellPause  = 5 * time.Second
	burst          = 100 // pauses in a row that do not grow
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
		wait, inARow := firstTellPause, 0
		for told := true; told; { // at first, what happened before the watch stood
			tell()
			pause(ctx, wait)
			select {
			case _, told = <-changed: // while nobody listened
				if inARow++; inARow > burst {
					wait = min(2*wait, lastTellPause)
				}
				if wait == lastTellPause {
					restless()
				}
			default:
				wait, inARow = firstTellPause, 0
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
