package agent

import (
	"context"
	"time"
)

// watchVault tells when the local vault changed, whoever changed it. While there
// is no vault to watch it looks for one again.
func (a *Agent) watchVault(ctx context.Context) <-chan struct{} {
	const again = 5 * time.Second
	out := make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			changed, err := a.local.Watch(ctx)
			if err != nil {
				select {
				case <-time.After(again):
				case <-ctx.Done():
				}
				continue
			}
			signal(out) // what happened before the watch stood
			for range changed {
				signal(out)
			}
		}
	}()
	return out
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
