package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Sentinels that implementations wrap. An error that wraps none of them is
// taken as transient: it may go away by itself and is worth another try.
var (
	// ErrNotFound: the store answered, and has no such secret.
	ErrNotFound = errors.New("no such secret")
	// ErrNoVersion: the secret exists, but no longer (or not yet) in this version.
	ErrNoVersion = errors.New("no such version")
	// ErrPermanent: trying again cannot help until a person changes something.
	ErrPermanent = errors.New("permanent")
)

// Retryable reports whether the same call may succeed later without anybody
// doing anything.
func Retryable(err error) bool {
	return err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoVersion) && !errors.Is(err, ErrPermanent)
}

// Provider reads one store. Implementations must be safe for concurrent use,
// must return when ctx ends, and must never put a value into an error.
type Provider interface {
	// Version returns the current version of the secret at path, as cheaply as
	// the store allows. A version changes whenever the value does.
	Version(ctx context.Context, path string) (secret.Version, error)
	// Get returns the value of one version, or of the current one when v is
	// empty, with the version it belongs to. The two are read together: a value
	// is never returned under another value's version.
	Get(ctx context.Context, path string, v secret.Version) (secret.Value, secret.Version, error)
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
