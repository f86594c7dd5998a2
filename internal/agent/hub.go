package agent

import (
	"sync"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// hub passes the progress of rotations on to whoever listens. A listener that
// does not keep up loses steps, never the agent its pace.
type hub struct {
	mu   sync.Mutex
	next int
	subs map[int]chan rotation.Progress
}

func (h *hub) publish(p rotation.Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range h.subs {
		select {
		case ch <- p:
		default:
		}
	}
}

func (h *hub) subscribe() (<-chan rotation.Progress, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[int]chan rotation.Progress{}
	}
	id := h.next
	h.next++
	ch := make(chan rotation.Progress, 256)
	h.subs[id] = ch
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, id)
	}
}
