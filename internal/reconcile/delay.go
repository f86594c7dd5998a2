package reconcile

import (
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// The pause after a rotation that was rolled back for a reason which is not the
// version's: a full disk, a name that is taken, an engine that refuses. It doubles
// from the first to the last.
const (
	firstDelay = 10 * time.Second
	lastDelay  = 10 * time.Minute
)

// delay keeps a container from being rotated to the same versions for a while. It
// is not remembered across agents: a new one tries at once.
type delay struct {
	to    secret.Versions
	why   string
	pause time.Duration
	until time.Time // zero: until a person asks, or the versions change
}

// delayed says why the container is not rotated to these versions now; empty when
// nothing speaks against it.
func (c *Controller) delayed(id string, to secret.Versions) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.delays[id]
	switch {
	case !ok, !d.to.Equal(to):
		return ""
	case d.until.IsZero():
		return d.why
	case time.Now().Before(d.until):
		return fmt.Sprintf("%s; tried again at %s", d.why, d.until.Format(time.TimeOnly))
	}
	return ""
}

// concluded remembers of a rotation that ended whether and when it is tried again.
func (c *Controller) concluded(e rotation.Entry) {
	id := e.Serving()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Outcome == rotation.OutcomeMarked {
		c.delays[e.OriginalContainerID] = delay{to: e.To, why: "a person ended the rotation; docker dso rotate " + e.ContainerName + " begins another"}
		return
	}
	if e.Pending() || !e.RetryLater() {
		delete(c.delays, e.OriginalContainerID)
		return
	}
	d := c.delays[e.OriginalContainerID]
	if !d.to.Equal(e.To) {
		d = delay{}
	}
	delete(c.delays, e.OriginalContainerID)
	pause := min(max(2*d.pause, firstDelay), lastDelay)
	c.delays[id] = delay{to: e.To, why: "rolled back, and not for a reason of the version: " + e.ErrorMessage, pause: pause, until: time.Now().Add(pause)}
	c.kickAfter(pause, e.Original)
}

// kickAfter looks at the container's group again after a while.
func (c *Controller) kickAfter(pause time.Duration, m engine.Container) {
	c.wg.Go(func() {
		select {
		case <-time.After(pause):
			c.kick(groupOf(m), m.Name, Target{})
		case <-c.base.Done():
		}
	})
}
