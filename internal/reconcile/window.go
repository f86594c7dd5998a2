package reconcile

import (
	"fmt"
	"time"
)

// shut says that no rotation may begin before a time; empty: one may. Nothing is kept
// about what is held back: it differs from what is desired for as long as it does.
func shut(opens time.Time) string {
	if opens.IsZero() {
		return ""
	}
	return fmt.Sprintf("held back by rotation.window until %s", opens.Format("2006-01-02 15:04 MST"))
}

// await makes everything be compared when the window opens.
func (c *Controller) await(opens time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opens.Equal(opens) {
		return
	}
	c.opens = opens
	c.wg.Go(func() {
		select {
		case <-time.After(time.Until(opens)):
		case <-c.base.Done():
			return
		}
		select {
		case c.opened <- struct{}{}:
		default:
		}
	})
}
