package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// Aliases takes the network aliases off containers that stand behind a front,
// before they start: the front owns the service's name, and a client that got a
// container's own address would keep it past the rotation. Compose gives every
// container its service's name and compares everything but that.
//
// The engine cannot change an alias, so the container is taken off the network
// and put on it again. What it must get back is on disk in between.
type Aliases struct {
	path   string
	engine Engine

	mu      sync.Mutex
	pending map[string]map[string]*network.EndpointSettings // by container id and network
}

// OpenAliases reads what an agent before left unfinished. With a
// [*durable.CorruptError] the result is usable.
func OpenAliases(path string, e Engine) (*Aliases, error) {
	a := &Aliases{path: path, engine: e, pending: map[string]map[string]*network.EndpointSettings{}}
	err := durable.LoadState(path, time.Now(), func(data []byte) error {
		pending := map[string]map[string]*network.EndpointSettings{}
		if err := json.Unmarshal(data, &pending); err != nil {
			return err
		}
		a.pending = pending
		return nil
	})
	return a, err
}

// Finish puts containers back on networks that an agent before took them off.
func (a *Aliases) Finish(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for id := range a.pending {
		errs = append(errs, a.finish(ctx, id))
	}
	return errors.Join(errs...)
}

// finish gives one container its networks back. What is gone meanwhile, the
// container or a network, is owed to nobody.
func (a *Aliases) finish(ctx context.Context, id string) error {
	c, err := a.engine.Inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return a.forget(id)
	}
	if err != nil {
		return err
	}
	for name, ep := range a.pending[id] {
		if _, on := c.Networks[name]; on {
			continue
		}
		if err := a.engine.Connect(ctx, id, name, ep); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return a.forget(id)
}

// Drop takes the aliases off a container that has not started yet. One that runs
// is left alone.
func (a *Aliases) Drop(ctx context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending[id]) > 0 {
		if err := a.finish(ctx, id); err != nil {
			return err
		}
	}
	c, err := a.engine.Inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil || c.Label(label.Front) == "" || c.State.Status != container.StateCreated {
		return err
	}
	bare := withoutAliases(c)
	if len(bare) == 0 {
		return nil
	}
	a.pending[id] = bare
	if err := a.save(); err != nil {
		return err
	}
	for name, ep := range bare {
		if err := a.engine.Disconnect(ctx, id, name); err != nil {
			return err
		}
		if err := a.engine.Connect(ctx, id, name, ep); err != nil {
			return err
		}
	}
	return a.forget(id)
}

// withoutAliases returns the endpoints that have aliases, without them.
func withoutAliases(c engine.Container) map[string]*network.EndpointSettings {
	bare := map[string]*network.EndpointSettings{}
	for name, ep := range c.Spec.Networks {
		aliases := slices.DeleteFunc(slices.Clone(ep.Aliases), func(s string) bool { return s == c.ShortID() })
		if len(aliases) > 0 {
			bare[name] = &network.EndpointSettings{
				IPAMConfig: ep.IPAMConfig.Copy(), Links: ep.Links, DriverOpts: ep.DriverOpts, GwPriority: ep.GwPriority,
			}
		}
	}
	return bare
}

func (a *Aliases) forget(id string) error {
	delete(a.pending, id)
	return a.save()
}

func (a *Aliases) save() error {
	data, err := json.Marshal(a.pending)
	if err != nil {
		return fmt.Errorf("encode pending networks: %w", err)
	}
	return durable.SaveState(a.path, data)
}
