package resolve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Variable is one environment variable that holds a reference.
type Variable struct {
	Name string
	Ref  secret.Ref
}

// Snapshot is the answer for one container.
type Snapshot struct {
	Values   map[string]secret.Value // by variable
	Versions secret.Versions
	Secrets  map[secret.ID]secret.Value // the whole values
	// Stale is why the versions are those before and not the current ones: a store
	// that does not answer. It is nil when they are current, or were asked for.
	Stale error
}

// Sealed holds values that were delivered before.
type Sealed interface {
	// Get returns the value of exactly that version, or an error.
	Get(id secret.ID, version secret.Version) (secret.Value, error)
}

// nothing is sealed.
type nothing struct{}

func (nothing) Get(secret.ID, secret.Version) (secret.Value, error) {
	return secret.Value{}, provider.ErrNotFound
}

// Resolver reads the configured providers. It is safe for concurrent use.
type Resolver struct {
	providers atomic.Pointer[provider.Registry]
	sealed    Sealed
}

// New returns a resolver over the providers and the sealed values, which may be nil.
func New(providers provider.Registry, sealed Sealed) *Resolver {
	r := &Resolver{sealed: sealed}
	if sealed == nil {
		r.sealed = nothing{}
	}
	r.Use(providers)
	return r
}

// Use replaces the providers. What is being resolved goes on with the ones before.
func (r *Resolver) Use(providers provider.Registry) { r.providers.Store(&providers) }

// Providers returns the registry that the resolver reads now.
func (r *Resolver) Providers() provider.Registry { return *r.providers.Load() }

// view is the resolver as it was when a call came: one call sees one registry.
type view struct {
	providers provider.Registry
	sealed    Sealed
}

func (r *Resolver) view() view { return view{r.Providers(), r.sealed} }

// attempts bounds how often a snapshot is taken again because a secret changed
// while it was taken.
const attempts = 5

// patience is how long the stores may take before the versions before are taken
// instead: a host that boots without its store must be up soon, and a start has ten
// seconds in all (see dso-runtime).
const patience = 3 * time.Second

// Snapshot resolves all variables for a container of the given Compose project.
// Secrets in want are read in that version, the others in their current one. When a
// store does not answer, the snapshot is of last, the versions that the container
// was given before, and stale: it is of the one or of the other, never a mixture.
func (r *Resolver) Snapshot(ctx context.Context, project string, vars []Variable, want, last secret.Versions) (Snapshot, error) {
	now := r.view()
	before, known := now.before(project, vars, want, last)
	if !known {
		return now.consistent(ctx, project, vars, want)
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	snap, err := now.consistent(asking, project, vars, want)
	if err == nil || !down(err) {
		return snap, err
	}
	stale, sealedErr := now.read(ctx, project, vars, before)
	if sealedErr != nil {
		return Snapshot{}, err
	}
	stale.Stale = err
	return stale, nil
}

// down reports whether an error says that a store does not answer, cannot be used, or gives
// what is no value for a container, and not that it answered no.
func down(err error) bool {
	for _, no := range []error{provider.ErrNotFound, provider.ErrNoVersion, provider.ErrDenied} {
		if errors.Is(err, no) {
			return false
		}
	}
	return true
}

// before returns the versions that the container was given before, if that is one of
// every secret.
func (r view) before(project string, vars []Variable, want, last secret.Versions) (secret.Versions, bool) {
	versions := secret.Versions{}
	maps.Copy(versions, last)
	maps.Copy(versions, want)
	for _, v := range vars {
		if _, ok := versions[v.Ref.In(project, r.providers.Has)]; !ok {
			return nil, false
		}
	}
	return versions, true
}

func (r view) consistent(ctx context.Context, project string, vars []Variable, want secret.Versions) (Snapshot, error) {
	for range attempts {
		snap, err := r.read(ctx, project, vars, want)
		if err != nil {
			return Snapshot{}, err
		}
		if len(snap.Versions) < 2 {
			return snap, nil
		}
		current, err := r.current(ctx, snap.Versions, want)
		if err != nil {
			return Snapshot{}, err
		}
		if current.Equal(snap.Versions) {
			return snap, nil
		}
	}
	return Snapshot{}, fmt.Errorf("the secrets changed %d times while they were read together; try again", attempts)
}

func (r view) read(ctx context.Context, project string, vars []Variable, want secret.Versions) (Snapshot, error) {
	snap := Snapshot{Values: map[string]secret.Value{}, Versions: secret.Versions{}, Secrets: map[secret.ID]secret.Value{}}
	var ids []secret.ID
	namedBy := map[secret.ID]Variable{} // first
	for _, v := range vars {
		id := v.Ref.In(project, r.providers.Has)
		if _, ok := namedBy[id]; !ok {
			ids, namedBy[id] = append(ids, id), v
		}
	}
	var mu sync.Mutex
	err := forEach(ids, func(id secret.ID) error {
		value, version, err := r.get(ctx, id, want[id])
		if err != nil {
			return explain(namedBy[id], id, want[id], err)
		}
		mu.Lock()
		defer mu.Unlock()
		snap.Secrets[id], snap.Versions[id] = value, version
		return nil
	})
	if err != nil {
		return Snapshot{}, err
	}
	for _, v := range vars {
		id := v.Ref.In(project, r.providers.Has)
		part, err := secret.Field(snap.Secrets[id], v.Ref.Field)
		if err != nil {
			return Snapshot{}, explain(v, id, "", err)
		}
		snap.Values[v.Name] = part
	}
	return snap, nil
}

// mostAtOnce bounds the questions of one start that are under way.
const mostAtOnce = 16

// forEach does something for each of the secrets, several at a time: a start must not wait for
// one answer after the other, and a store that answers several questions together can do so.
// The error is that of the first which has one.
func forEach(ids []secret.ID, do func(secret.ID) error) error {
	errs := make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(mostAtOnce)
	for i, id := range ids {
		group.Go(func() error {
			errs[i] = do(id)
			return nil
		})
	}
	_ = group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// get asks the sealed values first for a version that they may have: it is the same
// value, and its store may be down or have forgotten it.
func (r view) get(ctx context.Context, id secret.ID, v secret.Version) (secret.Value, secret.Version, error) {
	p, err := r.providers.Lookup(id.Provider)
	if err != nil {
		return secret.Value{}, "", err
	}
	if v != "" {
		if value, err := r.sealed.Get(id, v); err == nil {
			return value, v, nil
		}
	}
	return p.Get(ctx, id.Path, v)
}

// current returns the versions of the secrets now, taking wanted ones as given.
func (r view) current(ctx context.Context, vs, want secret.Versions) (secret.Versions, error) {
	now := secret.Versions{}
	var asked []secret.ID
	for _, id := range vs.IDs() {
		if w, ok := want[id]; ok {
			now[id] = w
		} else {
			asked = append(asked, id)
		}
	}
	var mu sync.Mutex
	err := forEach(asked, func(id secret.ID) error {
		v, err := r.version(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		now[id] = v
		return err
	})
	return now, err
}

func (r view) version(ctx context.Context, id secret.ID) (secret.Version, error) {
	p, err := r.providers.Lookup(id.Provider)
	if err != nil {
		return "", err
	}
	v, err := p.Version(ctx, id.Path)
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", id, cause(id, err))
	}
	return v, nil
}

// cause is an error of a provider without the provider and the path, which the
// message names already.
func cause(id secret.ID, err error) error {
	var e *provider.Error
	if errors.As(err, &e) && e.Provider == id.Provider && e.Path == id.Path {
		return e.Err
	}
	return err
}

// IDs returns the secrets that references mean, each once, in order.
func (r *Resolver) IDs(project string, refs []secret.Ref) []secret.ID {
	return r.view().ids(project, refs)
}

func (r view) ids(project string, refs []secret.Ref) []secret.ID {
	var ids []secret.ID
	for _, ref := range refs {
		ids = append(ids, ref.In(project, r.providers.Has))
	}
	slices.SortFunc(ids, secret.ID.Compare)
	return slices.Compact(ids)
}

func explain(v Variable, id secret.ID, version secret.Version, err error) error {
	err = cause(id, err)
	switch {
	case version != "":
		return fmt.Errorf("cannot resolve %s for %s: secret %s version %s: %w", v.Ref, v.Name, id, version, err)
	case errors.Is(err, provider.ErrNotFound):
		return notFound(fmt.Sprintf("cannot resolve %s for %s: provider %s has no secret %s", v.Ref, v.Name, id.Provider, id.Path))
	default:
		return fmt.Errorf("cannot resolve %s for %s: secret %s: %w", v.Ref, v.Name, id, err)
	}
}

// notFound is a [provider.ErrNotFound] that says which secret.
type notFound string

func (e notFound) Error() string { return string(e) }
func (e notFound) Unwrap() error { return provider.ErrNotFound }
