package reconcile

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// rest is what a pass left for later.
type rest struct {
	pause time.Duration
	force map[string]string // of those that have not had their turn
}

// turnsOf returns how the containers of a group take turns. They are of one service,
// but may be of two versions of it: the most careful one decides. Labels that make no
// sense are reported when the container is planned.
func turnsOf(members []engine.Container) rotation.Turns {
	var all rotation.Turns
	for i, m := range members {
		t, err := rotation.TurnsOf(m)
		if err != nil {
			t = rotation.Turns{AtOnce: 1}
		}
		if i == 0 || t.AtOnce > 0 && (all.AtOnce == 0 || t.AtOnce < all.AtOnce) {
			all.AtOnce = t.AtOnce
		}
		all.Pause = max(all.Pause, t.Pause)
	}
	return all
}

// split returns the first n, all when n is 0, and the others.
func split(members []engine.Container, n int) (now, after []engine.Container) {
	if n == 0 || n > len(members) {
		n = len(members)
	}
	return members[:n], members[n:]
}

func waiting(members []engine.Container, force map[string]string, pause time.Duration) *rest {
	r := &rest{pause: pause, force: map[string]string{}}
	for _, m := range members {
		if asked, forced := force[m.Name]; forced {
			r.force[m.Name] = asked
		}
	}
	return r
}

// still returns those of the containers that are there, as they are now, in their order.
func still(members, now []engine.Container) (there []engine.Container) {
	for _, m := range members {
		if i := slices.IndexFunc(now, func(o engine.Container) bool { return o.ID == m.ID }); i >= 0 {
			there = append(there, now[i])
		}
	}
	return there
}

// together settles containers at the same time. One whose rotation could not be carried on
// is left alone.
func (c *Controller) together(ctx context.Context, members []engine.Container, whyOf func(engine.Container) why) []Result {
	members = slices.DeleteFunc(slices.Clone(members), func(m engine.Container) bool { return c.Machine.Journal.Concerns(m.ID) })
	results := make([]Result, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { results[i] = c.settle(ctx, m, whyOf(m)) })
	}
	wg.Wait()
	return results
}
