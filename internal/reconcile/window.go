package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
	"github.com/docker-secret-operator/dso/internal/window"
)

// held is what dso.yaml keeps from leading to a rotation by itself. Nothing is kept
// about it: it differs from what is desired for as long as it does.
type held struct {
	off   []secret.ID // by rotation.enabled: false
	shut  []secret.ID // by a window that is closed
	opens time.Time   // the first of those windows
	all   bool        // of everything, because the state cannot be kept
}

func (h held) any() bool { return len(h.off)+len(h.shut) > 0 }

// heldBack looks at what would change of a container; at everything that it uses, when
// a person asks for it.
func (c *Controller) heldBack(m engine.Container, from, to secret.Versions, asked bool, now time.Time) held {
	h := held{all: c.Frozen}
	ids := changed(from, to).IDs()
	if asked {
		ids = to.IDs()
	}
	own := c.ownHolds(m)
	for _, id := range ids {
		opens, off := c.opensFor(own[id], now)
		switch {
		case off:
			h.off = append(h.off, id)
		case !opens.IsZero():
			h.shut = append(h.shut, id)
			if h.opens.IsZero() || opens.Before(h.opens) {
				h.opens = opens
			}
		}
	}
	return h
}

// ownHolds are those of the container's secrets about which dso.yaml says something of
// their own.
func (c *Controller) ownHolds(m engine.Container) map[secret.ID]*target.Hold {
	own := map[secret.ID]*target.Hold{}
	for _, r := range m.Given.References {
		ref, err := secret.ParseRef(r.Ref)
		if err != nil || r.Hold == nil {
			continue
		}
		for _, id := range c.Current.IDs(m.Project(), []secret.Ref{ref}) {
			own[id] = r.Hold
		}
	}
	return own
}

// opensFor returns when a change of a secret may lead to a rotation, zero: now; off
// says that it never may by itself.
func (c *Controller) opensFor(own *target.Hold, now time.Time) (opens time.Time, off bool) {
	switch {
	case c.Frozen:
		return time.Time{}, true
	case own == nil:
		return c.Window().Opens(now), false
	case own.Off:
		return time.Time{}, true
	}
	w, err := window.Parse(own.Cron, own.Length)
	return w.Opens(now), err != nil
}

// leaves returns what is to be changed to when the rest is held back: the container
// keeps its versions of it. It keeps everything when it has none of something.
func (h held) leaves(from, to secret.Versions) secret.Versions {
	out := to.Clone()
	for _, id := range slices.Concat(h.off, h.shut) {
		v, has := from[id]
		if !has {
			return from
		}
		out[id] = v
	}
	return out
}

func (h held) String() string {
	if h.all {
		return "held back: the agent's state is on a disk that is read-only"
	}
	var why []string
	if len(h.shut) > 0 {
		why = append(why, "held back by rotation.window until "+h.opens.Format("2006-01-02 15:04 MST"))
	}
	if len(h.off) > 0 {
		why = append(why, "held back by rotation.enabled: false of "+names(h.off))
	}
	return strings.Join(why, "; ")
}

// note says what a person who asks goes past.
func (h held) note() string {
	if h.all {
		return "although the agent's state is on a disk that is read-only, because it was asked for"
	}
	var past []string
	if len(h.shut) > 0 {
		past = append(past, "outside of rotation.window")
	}
	if len(h.off) > 0 {
		past = append(past, "although rotation.enabled is false for "+names(h.off))
	}
	return strings.Join(past, " and ") + ", because it was asked for"
}

func names(ids []secret.ID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = id.String()
	}
	return strings.Join(words, ", ")
}

// await makes everything be compared when a window opens.
func (c *Controller) await(opens time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if opens.IsZero() || c.awaited[opens.Unix()] {
		return
	}
	c.awaited[opens.Unix()] = true
	c.wg.Go(func() {
		select {
		case <-time.After(time.Until(opens)):
		case <-c.base.Done():
			return
		}
		c.mu.Lock()
		delete(c.awaited, opens.Unix())
		c.mu.Unlock()
		select {
		case c.opened <- struct{}{}:
		default:
		}
	})
}
