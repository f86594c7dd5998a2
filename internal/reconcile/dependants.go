package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// tooEarly is in the error of a container whose network is another container's
// that did not run yet. An engine that starts pays no heed to who lives in whose
// network, and never tries such a start again.
const tooEarly = "non running container"

// The wait for the container in whose network another one lives.
const (
	dependantPoll = time.Second
	dependantWait = time.Minute
)

// startDependants starts the containers that live in the network of a managed one
// and that the engine, when it started, tried before that one ran. A managed
// container takes longer to start than others: it waits for its secrets.
func (c *Controller) startDependants(all []engine.Container) {
	for _, d := range all {
		if d.Spec.HostConfig == nil || d.State.Status != container.StateExited || !strings.Contains(d.State.Error, tooEarly) || !wanted(d) {
			continue
		}
		id := d.Spec.HostConfig.NetworkMode.ConnectedContainer()
		if slices.ContainsFunc(all, func(m engine.Container) bool { return m.ID == id && managed(m) }) {
			c.wg.Go(func() { c.startDependant(d, id) })
		}
	}
}

// startDependant starts d as soon as the container with id main runs. One that has begun
// to crash may be gone again in between, with its network: then it is tried once more.
func (c *Controller) startDependant(d engine.Container, main string) {
	for end := time.Now().Add(dependantWait); time.Now().Before(end); {
		m, err := c.Engine.Inspect(c.base, main)
		if errdefs.IsNotFound(err) || err == nil && m.Running() && c.tryDependant(d, m) {
			return
		}
		select {
		case <-time.After(dependantPoll):
		case <-c.base.Done():
			return
		}
	}
}

// tryDependant reports whether there is nothing more to do.
func (c *Controller) tryDependant(d, main engine.Container) bool {
	now, err := c.Engine.Inspect(c.base, d.ID)
	if errdefs.IsNotFound(err) || err == nil && now.State.Status != container.StateExited {
		return true // gone, or somebody else has started it
	}
	c.Log.Info("starting a container that was tried before the one whose network it lives in", "container", d.Name, "network_of", main.Name)
	if err := c.Engine.Start(c.base, d.ID); err != nil {
		c.Log.Warn("container not started", "container", d.Name, "error", err)
		return errdefs.IsNotFound(err)
	}
	return true
}
