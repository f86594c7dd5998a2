package reconcile

import (
	"context"
	"sync/atomic"

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
	count   *counts
}

// counts is what became of the events, over all connections.
type counts struct {
	deepest            atomic.Int64
	processed, dropped atomic.Uint64
}

// deep notes how many events wait.
func (n *counts) deep(depth int) {
	for {
		was := n.deepest.Load()
		if int64(depth) <= was || n.deepest.CompareAndSwap(was, int64(depth)) {
			return
		}
	}
}

func newQueue(m *metrics.Events, n *counts) *queue {
	return &queue{events: make(chan engine.Event, queueSize), missed: make(chan struct{}, 1), metrics: m, count: n}
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
		q.count.deep(len(q.events))
		return
	default:
	}
	q.metrics.Dropped.Inc()
	q.count.dropped.Add(1)
	select {
	case q.missed <- struct{}{}:
	default:
	}
}

// took is called after an event was taken out to be handled.
func (q *queue) took() {
	q.count.processed.Add(1)
	q.metrics.Depth.Set(float64(len(q.events)))
}

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
	q.metrics.Depth.Set(0)
	// Last: of an event that is dropped until now the list knows.
	select {
	case <-q.missed:
	default:
	}
}
