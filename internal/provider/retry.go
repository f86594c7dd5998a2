package provider

import (
	"context"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Retry is a provider that makes the calls of another again while they may succeed
// later. Every error names the provider and the path.
type Retry struct {
	Provider
	Name     string
	Attempts int           // calls in all
	Backoff  time.Duration // the first pause; it doubles
}

// Version implements [Provider].
func (r *Retry) Version(ctx context.Context, path string) (v secret.Version, err error) {
	err = r.again(ctx, path, func() error { v, err = r.Provider.Version(ctx, path); return err })
	return v, err
}

// Get implements [Provider].
func (r *Retry) Get(ctx context.Context, path string, want secret.Version) (value secret.Value, v secret.Version, err error) {
	err = r.again(ctx, path, func() error { value, v, err = r.Provider.Get(ctx, path, want); return err })
	return value, v, err
}

// again returns the last error when there is no time left for the next pause: it
// says more than that the time is over.
func (r *Retry) again(ctx context.Context, path string, call func() error) error {
	pause := r.Backoff
	for left := r.Attempts; ; left-- {
		err := call()
		wait := max(pause, RetryAfter(err))
		deadline, bounded := ctx.Deadline()
		if !Retryable(err) || left <= 1 || ctx.Err() != nil || bounded && time.Until(deadline) <= wait {
			return Explain(r.Name, path, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Explain(r.Name, path, err)
		}
		pause *= 2
	}
}
