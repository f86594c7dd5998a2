package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

const (
	// openAfter is how many calls in a row must fail before the breaker opens.
	openAfter = 5
	// firstPause is the pause before the first probe; it doubles.
	firstPause = 5 * time.Second
	// firstLoginPause is that after a credential was not accepted: only a person helps,
	// and stores lock accounts that keep trying.
	firstLoginPause = 30 * time.Second
	// lastPause bounds the pauses, and the longest interval does too, so that a store
	// which is back is noticed no later than a change would be. A credential's pauses
	// are bounded by lastPause alone.
	lastPause = 10 * time.Minute
)

// verdict is what the end of a call says about the store.
type verdict int

const (
	nothing  verdict = iota // the caller went away
	answered                // it works, whatever it said about the secret
	failed                  // it may work later
	rejected                // it does not accept the credential
	wrong                   // something that only a person mends; the next call may be about something else
)

func judge(err error) verdict {
	switch {
	case errors.Is(err, context.Canceled):
		return nothing
	case err == nil, errors.Is(err, provider.ErrNotFound), errors.Is(err, provider.ErrNoVersion),
		errors.Is(err, provider.ErrDenied), errors.Is(err, provider.ErrTooLarge):
		return answered
	case errors.Is(err, provider.ErrCredential):
		return rejected
	case provider.Retryable(err):
		return failed
	}
	return wrong
}

// breaker decides whether a store is worth a call. The zero value is closed.
type breaker struct {
	failures int       // in a row
	since    time.Time // open since; zero: closed
	next     time.Time // of the next probe
	pause    time.Duration
	cause    error
}

func (b *breaker) open() bool { return !b.since.IsZero() }

// note takes what a call ended with, and reports whether it opened or closed the
// breaker. longest bounds the pauses.
func (b *breaker) note(now time.Time, err error, longest time.Duration) (opened, closed bool) {
	after := provider.RetryAfter(err)
	switch what := judge(err); {
	case what == nothing, what == wrong && !b.open():
		return false, false
	case what == answered:
		closed = b.open()
		*b = breaker{}
		return false, closed
	case what == failed:
		if b.failures++; b.failures < openAfter && after == 0 && !b.open() {
			return false, false
		}
	}
	if b.open() && now.Before(b.next) {
		return false, false // a start that asked all the same; the next probe stays when it is
	}
	first, last := min(firstPause, longest), min(lastPause, longest)
	if judge(err) == rejected {
		first, last = firstLoginPause, lastPause
	}
	b.pause = min(max(2*b.pause, first), last)
	opened = !b.open()
	if opened {
		b.since = now
	}
	b.next, b.cause = now.Add(max(b.pause, after)), err
	return opened, false
}

// OpenError says that a store was not asked, because its breaker is open.
type OpenError struct {
	Since time.Time
	Next  time.Time // the store is not asked before
	Err   error     // of the last call
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the store is asked again at %s: %v", e.Next.Format(time.TimeOnly), e.Err)
}

func (e *OpenError) Unwrap() error { return e.Err }
