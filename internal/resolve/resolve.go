package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

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
}

// Resolver reads the configured providers. It is safe for concurrent use.
type Resolver struct {
	providers atomic.Pointer[provider.Registry]
}

// New returns a resolver over the providers.
func New(providers provider.Registry) *Resolver {
	r := &Resolver{}
	r.Use(providers)
	return r
}

// Use replaces the providers. What is being resolved goes on with the ones before.
func (r *Resolver) Use(providers provider.Registry) { r.providers.Store(&providers) }

// Providers returns the registry that the resolver reads now.
func (r *Resolver) Providers() provider.Registry { return *r.providers.Load() }

// view is the resolver as it was when a call came: one call sees one registry.
type view struct{ providers provider.Registry }

func (r *Resolver) view() view { return view{r.Providers()} }

// attempts bounds how often a snapshot is taken again because a secret changed
// while it was taken.
const attempts = 5

// Snapshot resolves all variables for a container of the given Compose project.
// Secrets in want are read in that version, the others in their current one.
func (r *Resolver) Snapshot(ctx context.Context, project string, vars []Variable, want secret.Versions) (Snapshot, error) {
	now := r.view()
	for range attempts {
		snap, err := now.read(ctx, project, vars, want)
		if err != nil {
			return Snapshot{}, err
		}
		if len(snap.Versions) < 2 {
			return snap, nil
		}
		current, err := now.current(ctx, snap.Versions, want)
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
	snap := Snapshot{Values: map[string]secret.Value{}, Versions: secret.Versions{}}
	whole := map[secret.ID]secret.Value{}
	for _, v := range vars {
		id := v.Ref.In(project, r.providers.Has)
		value, ok := whole[id]
		if !ok {
			var version secret.Version
			var err error
			if value, version, err = r.get(ctx, id, want[id]); err != nil {
				return Snapshot{}, explain(v, id, want[id], err)
			}
			whole[id], snap.Versions[id] = value, version
		}
		part, err := secret.Field(value, v.Ref.Field)
		if err != nil {
			return Snapshot{}, explain(v, id, "", err)
		}
		snap.Values[v.Name] = part
	}
	return snap, nil
}

func (r view) get(ctx context.Context, id secret.ID, v secret.Version) (secret.Value, secret.Version, error) {
	p, err := r.providers.Lookup(id.Provider)
	if err != nil {
		return secret.Value{}, "", err
	}
	return p.Get(ctx, id.Path, v)
}

// current returns the versions of the secrets now, taking wanted ones as given.
func (r view) current(ctx context.Context, vs, want secret.Versions) (secret.Versions, error) {
	now := secret.Versions{}
	for id := range vs {
		if w, ok := want[id]; ok {
			now[id] = w
			continue
		}
		v, err := r.version(ctx, id)
		if err != nil {
			return nil, err
		}
		now[id] = v
	}
	return now, nil
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
		return fmt.Errorf("cannot resolve %s for %s: provider %s has no secret %s", v.Ref, v.Name, id.Provider, id.Path)
	default:
		return fmt.Errorf("cannot resolve %s for %s: secret %s: %w", v.Ref, v.Name, id, err)
	}
}
