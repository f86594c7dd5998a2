package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	providers provider.Registry
}

// New returns a resolver over the providers.
func New(providers provider.Registry) *Resolver { return &Resolver{providers: providers} }

// Providers returns the registry that the resolver reads.
func (r *Resolver) Providers() provider.Registry { return r.providers }

// attempts bounds how often a snapshot is taken again because a secret changed
// while it was taken.
const attempts = 5

// Snapshot resolves all variables for a container of the given Compose project.
// Secrets in want are read in that version, the others in their current one.
func (r *Resolver) Snapshot(ctx context.Context, project string, vars []Variable, want secret.Versions) (Snapshot, error) {
	for range attempts {
		snap, err := r.read(ctx, project, vars, want)
		if err != nil {
			return Snapshot{}, err
		}
		if len(snap.Versions) < 2 {
			return snap, nil
		}
		now, err := r.current(ctx, snap.Versions, want)
		if err != nil {
			return Snapshot{}, err
		}
		if now.Equal(snap.Versions) {
			return snap, nil
		}
	}
	return Snapshot{}, fmt.Errorf("the secrets changed %d times while they were read together; try again", attempts)
}

func (r *Resolver) read(ctx context.Context, project string, vars []Variable, want secret.Versions) (Snapshot, error) {
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

func (r *Resolver) get(ctx context.Context, id secret.ID, v secret.Version) (secret.Value, secret.Version, error) {
	p, err := r.providers.Lookup(id.Provider)
	if err != nil {
		return secret.Value{}, "", err
	}
	return p.Get(ctx, id.Path, v)
}

// current returns the versions of the secrets now, taking wanted ones as given.
func (r *Resolver) current(ctx context.Context, vs, want secret.Versions) (secret.Versions, error) {
	now := secret.Versions{}
	for id := range vs {
		if w, ok := want[id]; ok {
			now[id] = w
			continue
		}
		v, err := r.Version(ctx, id)
		if err != nil {
			return nil, err
		}
		now[id] = v
	}
	return now, nil
}

// Version returns the current version of one secret.
func (r *Resolver) Version(ctx context.Context, id secret.ID) (secret.Version, error) {
	p, err := r.providers.Lookup(id.Provider)
	if err != nil {
		return "", err
	}
	v, err := p.Version(ctx, id.Path)
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", id, err)
	}
	return v, nil
}

// Desired returns the current versions of all secrets that the references of a
// container mean.
func (r *Resolver) Desired(ctx context.Context, project string, refs []secret.Ref) (secret.Versions, error) {
	vs := secret.Versions{}
	for _, id := range r.IDs(project, refs) {
		v, err := r.Version(ctx, id)
		if err != nil {
			return nil, err
		}
		vs[id] = v
	}
	return vs, nil
}

// IDs returns the secrets that references mean, each once, in order.
func (r *Resolver) IDs(project string, refs []secret.Ref) []secret.ID {
	var ids []secret.ID
	for _, ref := range refs {
		ids = append(ids, ref.In(project, r.providers.Has))
	}
	slices.SortFunc(ids, secret.ID.Compare)
	return slices.Compact(ids)
}

func explain(v Variable, id secret.ID, version secret.Version, err error) error {
	switch {
	case version != "":
		return fmt.Errorf("cannot resolve %s for %s: secret %s version %s: %w", v.Ref, v.Name, id, version, err)
	case errors.Is(err, provider.ErrNotFound):
		return fmt.Errorf("cannot resolve %s for %s: provider %s has no secret %s", v.Ref, v.Name, id.Provider, id.Path)
	default:
		return fmt.Errorf("cannot resolve %s for %s: secret %s: %w", v.Ref, v.Name, id, err)
	}
}
