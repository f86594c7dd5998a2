package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// MaxValue is the greatest length of a value that a provider takes from a store, in
// bytes; it is that of the local vault.
const MaxValue = 16 << 20

// Sentinels that implementations wrap. An error that wraps none of them is
// taken as transient: it may go away by itself and is worth another try.
var (
	// ErrNotFound: the store answered, and has no such secret.
	ErrNotFound = errors.New("no such secret")
	// ErrNoVersion: the secret exists, but no longer (or not yet) in this version.
	ErrNoVersion = errors.New("no such version")
	// ErrPermanent: trying again cannot help until a person changes something.
	ErrPermanent = errors.New("permanent")
	// ErrDenied: the store knows who asks, and refuses. Permanent.
	ErrDenied = fmt.Errorf("the store denies access (%w)", ErrPermanent)
	// ErrCredential: the store does not accept DSO's own credential, and the
	// provider could not get another. Permanent.
	ErrCredential = fmt.Errorf("the store does not accept the credential (%w)", ErrPermanent)
	// ErrTooLarge: the answer is longer than a value may be. Permanent.
	ErrTooLarge = fmt.Errorf("the value is too large (%w)", ErrPermanent)
	// ErrMalformed: the answer is cut off or not what the store's kind answers.
	// Something in between may have answered, so it is worth another try.
	ErrMalformed = errors.New("the answer cannot be understood")
)

// Retryable reports whether the same call may succeed later without anybody
// doing anything.
func Retryable(err error) bool {
	return err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoVersion) && !errors.Is(err, ErrPermanent)
}

// Throttled is the error of a store that wants fewer calls. It is retryable.
type Throttled struct {
	// After is how long the store asks to wait; zero when it does not say.
	After time.Duration
}

func (e *Throttled) Error() string {
	if e.After > 0 {
		return fmt.Sprintf("the store asks to wait %s", max(e.After.Round(time.Second), time.Second))
	}
	return "the store asks for fewer calls"
}

// RetryAfter is how long to wait before the next call.
func (e *Throttled) RetryAfter() time.Duration { return e.After }

// MaxRetryAfter is how long a store is believed that asks to wait. One that says more, by
// mistake or not, is asked again then.
const MaxRetryAfter = time.Hour

// RetryAfter returns how long an error asks to wait before the next call, up to
// [MaxRetryAfter]; zero when it does not say.
func RetryAfter(err error) time.Duration {
	var later interface{ RetryAfter() time.Duration }
	if errors.As(err, &later) {
		return min(later.RetryAfter(), MaxRetryAfter)
	}
	return 0
}

// Error says which secret of which provider an error is about.
type Error struct {
	Provider string
	Path     string
	Err      error
}

func (e *Error) Error() string { return fmt.Sprintf("provider %s: %s: %v", e.Provider, e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Explain adds the provider and the path to an error; nil stays nil.
func Explain(name, path string, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Provider: name, Path: path, Err: err}
}

// maxVersion bounds a version, in bytes: it stands in logs, journals and tables.
const maxVersion = 256

// CheckVersion refuses a version that cannot be shown or kept: one is a short text
// without control characters. The error does not quote it.
func CheckVersion(v secret.Version) error {
	switch {
	case len(v) > maxVersion:
		return fmt.Errorf("%w: its version has more than %d bytes", ErrMalformed, maxVersion)
	case !utf8.ValidString(string(v)), strings.ContainsFunc(string(v), func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: its version has a character that cannot be shown", ErrMalformed)
	}
	return nil
}

// Provider reads one store. Implementations must be safe for concurrent use,
// must return when ctx ends, and must never put a value, a credential or text that
// the store sent into an error.
type Provider interface {
	// Version returns the current version of the secret at path, as cheaply as
	// the store allows. A version changes whenever the value does.
	Version(ctx context.Context, path string) (secret.Version, error)
	// Get returns the value of one version, or of the current one when v is
	// empty, with the version it belongs to. The two are read together: a value
	// is never returned under another value's version.
	Get(ctx context.Context, path string, v secret.Version) (secret.Value, secret.Version, error)
}

// Watcher is a provider whose store tells by itself that something changed.
type Watcher interface {
	// Watch tells until ctx ends that some secret may have a new version. An
	// error may be gone later; the caller tries again or polls.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Relay tells one caller of [Watcher.Watch], until ctx ends, what comes from a channel that
// outlives it.
func Relay(ctx context.Context, from <-chan struct{}) <-chan struct{} {
	told := make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case <-from:
			case <-ctx.Done():
				return
			}
			select {
			case told <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return told
}

// Keeper is a provider that has something to look after between the calls, such as
// a token that wants to be renewed.
type Keeper interface {
	// Keep works until ctx ends.
	Keep(ctx context.Context)
}

// Registry holds the configured providers by name. It is immutable.
type Registry struct {
	byName map[string]Provider
}

// NewRegistry returns a registry of the given providers.
func NewRegistry(byName map[string]Provider) Registry {
	return Registry{byName: maps.Clone(byName)}
}

// Has reports whether a provider of that name is configured.
func (r Registry) Has(name string) bool { _, ok := r.byName[name]; return ok }

// Names returns the names of all providers in order.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r.byName)) }

// Lookup returns the provider of that name. An unknown one is a permanent error.
func (r Registry) Lookup(name string) (Provider, error) {
	p, ok := r.byName[name]
	if !ok {
		return nil, fmt.Errorf("provider %q is not configured: %w", name, ErrPermanent)
	}
	return p, nil
}
