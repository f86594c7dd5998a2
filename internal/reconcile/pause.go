package reconcile

import (
	"context"
	"strings"
	"sync"
	"time"
)

// gate lets either rotations or Compose change the containers of a project. Compose
// takes a replacement for one replica too many, and removes another one for it.
type gate struct {
	paused int           // by how many
	active int           // groups that are being looked at, or changed over
	moved  chan struct{} // closed at the next change
}

func (c *Controller) gateOf(project string) *gate {
	g := c.gates[project]
	if g == nil {
		g = &gate{moved: make(chan struct{})}
		c.gates[project] = g
	}
	return g
}

// move changes a gate and tells whoever waits. The caller holds the controller's lock.
func (c *Controller) move(project string, change func(*gate)) {
	g := c.gateOf(project)
	change(g)
	close(g.moved)
	g.moved = make(chan struct{})
	if g.paused == 0 && g.active == 0 {
		delete(c.gates, project)
	}
}

// enter waits until the project is not paused, and keeps it from being paused until
// leave. What began before must go on: it does not wait.
func (c *Controller) enter(ctx context.Context, project string, began bool) (leave func(), err error) {
	if project == "" {
		return func() {}, nil
	}
	for {
		c.mu.Lock()
		g := c.gateOf(project)
		if began || g.paused == 0 {
			c.move(project, func(g *gate) { g.active++ })
			c.mu.Unlock()
			return sync.OnceFunc(func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.move(project, func(g *gate) { g.active-- })
			}), nil
		}
		moved := g.moved
		c.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pausePoll is how often a rotation is looked for that nobody has begun to carry on.
const pausePoll = 100 * time.Millisecond

// Pause keeps the rotations of a Compose project from beginning until resume is
// called, and returns when none is going on. When ctx ends first nothing is paused.
func (c *Controller) Pause(ctx context.Context, project string) (resume func(), err error) {
	c.mu.Lock()
	c.move(project, func(g *gate) { g.paused++ })
	c.mu.Unlock()
	resume = sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.move(project, func(g *gate) { g.paused-- })
	})
	for {
		c.mu.Lock()
		g := c.gateOf(project)
		active, moved := g.active, g.moved
		c.mu.Unlock()
		if active == 0 && !c.pendingIn(project) {
			return resume, nil
		}
		select {
		case <-moved:
		case <-time.After(pausePoll):
		case <-ctx.Done():
			resume()
			return nil, ctx.Err()
		}
	}
}

func (c *Controller) pendingIn(project string) bool {
	for _, e := range c.Machine.Journal.Pending() {
		if e.Original.Project() == project {
			return true
		}
	}
	return false
}

// projectOf returns the Compose project of a group; empty for a container of its own.
func projectOf(key string) string {
	project, _, isService := strings.Cut(key, "/")
	if !isService {
		return ""
	}
	return project
}
