package legacy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// Engine is what is needed of a Docker Engine.
type Engine interface {
	Inspect(ctx context.Context, id string) (engine.Container, error)
	List(ctx context.Context, labels ...string) ([]string, error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	Rename(ctx context.Context, id, name string) error
}

// Adopter does what a plan says. All fields are required.
type Adopter struct {
	Engine Engine
	// Ours and Busy are as in [Observed]; they are asked again before each act.
	Ours func(id string) bool
	Busy func(name string) bool
	// Healthy waits until a running container is healthy; an error says why it does
	// not become so.
	Healthy func(ctx context.Context, c engine.Container) error
	Log     *slog.Logger
}

// Result is what came of an item.
type Result struct {
	Item
	Err error
}

// Plan looks at all containers and decides about the leftovers.
func (a *Adopter) Plan(ctx context.Context) ([]Item, error) {
	ids, err := a.Engine.List(ctx)
	if err != nil {
		return nil, err
	}
	all, err := engine.InspectAll(ctx, a.Engine, ids)
	if err != nil {
		return nil, err
	}
	return Plan(Observed{Containers: all, Ours: a.Ours, Busy: a.Busy}), nil
}

// Adopt does what the items say, one after the other, each only if a new look still
// says so. It may be run again at any time: what is done is not planned again.
func (a *Adopter) Adopt(ctx context.Context, items []Item) []Result {
	var results []Result
	for _, item := range items {
		if item.Do != Report {
			results = append(results, Result{item, a.adopt(ctx, item)})
		}
	}
	return results
}

var errChanged = errors.New("it has changed since it was looked at; ask again")

func (a *Adopter) adopt(ctx context.Context, item Item) error {
	now, err := a.Plan(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(now, func(n Item) bool { return n.ID == item.ID })
	switch {
	case i < 0:
		if _, err := a.Engine.Inspect(ctx, item.ID); errdefs.IsNotFound(err) && item.Do == Remove {
			return nil // somebody was faster
		}
		return errChanged
	case now[i].Do != item.Do || now[i].Of != item.Of || now[i].Else != item.Else:
		return fmt.Errorf("%w: %s", errChanged, now[i].Why)
	case item.Do == Remove && slices.ContainsFunc(now, func(n Item) bool { return n.Of == item.Of && n.Do == Restore }):
		return fmt.Errorf("%s is not healthy yet: this one is kept", item.Of)
	case item.Do == Remove:
		return a.remove(ctx, now[i])
	}
	return a.restore(ctx, now[i])
}

func (a *Adopter) remove(ctx context.Context, item Item) error {
	if err := a.Engine.Stop(ctx, item.ID); err != nil {
		return err
	}
	a.Log.Info("removing a leftover of an older version", "container", item.Name, "id", engine.ShortID(item.ID), "reason", item.Why)
	return a.Engine.Remove(ctx, item.ID)
}

// restore gives the name to the first candidate that is or becomes healthy.
func (a *Adopter) restore(ctx context.Context, item Item) error {
	var errs []error
	for _, id := range []string{item.ID, item.Else} {
		if id == "" {
			continue
		}
		fit, err := a.revive(ctx, id)
		if err == nil {
			err = a.giveName(ctx, id, item.Of)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("give the name %s to %s: %w", item.Of, engine.ShortID(id), err))
		if fit { // nothing says that the other one is better
			break
		}
	}
	return errors.Join(errs...)
}

// revive starts a container and waits until it is healthy. One that does not become
// so, which makes it unfit, is stopped again if it was stopped before.
func (a *Adopter) revive(ctx context.Context, id string) (fit bool, err error) {
	c, err := a.Engine.Inspect(ctx, id)
	if err != nil {
		return true, err
	}
	stopped := c.State.Status == container.StateExited || c.State.Status == container.StateCreated
	if stopped {
		err = a.Engine.Start(ctx, id)
	}
	if err == nil {
		err = a.Healthy(ctx, c)
	}
	if err == nil || ctx.Err() != nil || engine.Unavailable(err) {
		return true, err
	}
	if stopped {
		err = errors.Join(err, a.Engine.Stop(ctx, id))
	}
	return false, err
}

func (a *Adopter) giveName(ctx context.Context, id, name string) error {
	a.Log.Info("giving a leftover of an older version its name back", "id", engine.ShortID(id), "name", name)
	err := a.Engine.Rename(ctx, id, name)
	if err == nil {
		return nil
	}
	if c, lookErr := a.Engine.Inspect(ctx, id); lookErr == nil && c.Name == name {
		return nil // only the answer was lost
	}
	return err
}
