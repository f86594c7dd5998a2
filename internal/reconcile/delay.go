package reconcile

import (
	"context"
	"errors"
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

// tolerated is how many versions in a row may be wrong before the next one waits too: a
// store that has another version at each call would have its containers rotated for ever.
const tolerated = 3

// delay keeps a container from being rotated to the same versions for a while. It
// is not remembered across agents: a new one tries at once.
type delay struct {
	to    secret.Versions // nil: to any
	why   string
	pause time.Duration
	until time.Time // zero: until a person asks, or the versions change
	wrong int       // versions in a row that the container did not work with
}

// delayed says why the container is not rotated to these versions now; empty when
// nothing speaks against it.
func (c *Controller) delayed(id string, to secret.Versions) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.delays[id]
	switch {
	case !ok, d.to != nil && !d.to.Equal(to), d.to == nil && d.until.IsZero():
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
	d := c.delays[e.OriginalContainerID]
	delete(c.delays, e.OriginalContainerID)
	switch {
	case e.Pending():
	case e.RetryLater():
		if !d.to.Equal(e.To) {
			d.pause = 0
		}
		d.to, d.why = e.To, "rolled back, and not for a reason of the version: "+e.ErrorMessage
		c.delays[id] = c.grown(d, e.Original)
	case e.Unfit:
		d = delay{wrong: d.wrong + 1, pause: d.pause}
		if d.wrong < tolerated {
			d.pause = 0
		} else {
			d.why = fmt.Sprintf("it did not work with any of %d versions in a row, the last time because of: %s", d.wrong, e.ErrorMessage)
			d = c.grown(d, e.Original)
		}
		c.delays[id] = d
	}
}

// grown is a delay with the next pause, after which the container is looked at again.
func (c *Controller) grown(d delay, m engine.Container) delay {
	d.pause = min(max(2*d.pause, firstDelay), lastDelay)
	d.until = time.Now().Add(d.pause)
	c.kickAfter(d.pause, m)
	return d
}

// unreadable returns why a start of the container with these versions would get no values,
// and looks again later: its store does not give them now, or has others already. That says
// nothing about the versions, so nothing is stopped for them. What is read and does not fit
// is for the rotation to find.
func (c *Controller) unreadable(ctx context.Context, m engine.Container, to secret.Versions) error {
	err := c.Deliveries.Readable(ctx, request(m), to)
	if err == nil || errors.Is(err, secret.ErrUnfit) || ctx.Err() != nil {
		return nil
	}
	c.Log.Warn("rotation not begun: a value cannot be read", "container", m.Name, "error", err)
	err = fmt.Errorf("kept on the versions before: %w", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.delays[m.ID]
	if !d.to.Equal(to) {
		d.pause = 0
	}
	d.to, d.why = to, err.Error()
	c.delays[m.ID] = c.grown(d, m)
	return err
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
