package reconcile

import (
	"context"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/metrics"
)

// queueSize is how many events wait for the loop: as many as the engine itself
// keeps for one reader. The loop stands still during a comparison, some milliseconds
// per container, and a container that is made anew tells five events or so; beyond
// two hundred such at once, comparing everything is the shorter way in any case.
const queueSize = 1024

// queue keeps the engine's events until the loop has time for them. The stream must
// be read without pause: an engine drops the events of a slow reader, and tells
// nobody.
type queue struct {
	events chan engine.Event
	// missed says that an event was dropped since the last clear. What it would have
	// told is for a comparison of everything to find out.
	missed  chan struct{}
	metrics *metrics.Events
}

func newQueue(m *metrics.Events) *queue {
	return &queue{events: make(chan engine.Event, queueSize), missed: make(chan struct{}, 1), metrics: m}
}

// fill reads the stream into the queue until ctx or the stream ends.
func (q *queue) fill(ctx context.Context, stream <-chan engine.Event) {
	for {
		select {
		case ev, more := <-stream:
			if !more {
				return
			}
			q.put(ev)
		case <-ctx.Done():
			return
		}
	}
}

func (q *queue) put(ev engine.Event) {
	select {
	case q.events <- ev:
		q.metrics.Depth.Set(float64(len(q.events)))
		return
	default:
	}
	q.metrics.Dropped.Inc()
	select {
	case q.missed <- struct{}{}:
	default:
	}
}

// took is called after an event was taken out.
func (q *queue) took() { q.metrics.Depth.Set(float64(len(q.events))) }

// clear forgets what is queued and what was dropped: the list that follows is newer
// than all of it.
func (q *queue) clear() {
	for {
		select {
		case <-q.events:
			continue
		default:
		}
		break
	}
	q.took()
	// Last: of an event that is dropped until now the list knows.
	select {
	case <-q.missed:
	default:
	}
}
