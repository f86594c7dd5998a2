package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/eventlog"
)

// waiting bounds the messages that wait for one destination.
const waiting = 100

// Notifier tells destinations of the events of a log.
type Notifier struct {
	Events *eventlog.Log
	Log    *slog.Logger
	// Count, when set, is told how each message ended: sent, failed or dropped.
	Count func(destination, how string)

	mu   sync.Mutex
	to   []Destination
	news chan struct{} // closed when the destinations are others
}

// Use replaces the destinations. What waits for the ones before is not sent any more.
func (n *Notifier) Use(to []Destination) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = to
	if n.news != nil {
		close(n.news)
		n.news = nil
	}
}

func (n *Notifier) destinations() ([]Destination, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.news == nil {
		n.news = make(chan struct{})
	}
	return n.to, n.news
}

// Run tells of what happens until ctx ends, and of what has happened since the agent
// began.
func (n *Notifier) Run(ctx context.Context) {
	after := uint64(0)
	for ctx.Err() == nil {
		to, news := n.destinations()
		after = n.serve(ctx, to, news, after)
	}
}

// serve tells the destinations until others take their place, and returns the last
// event that was seen.
func (n *Notifier) serve(ctx context.Context, to []Destination, news <-chan struct{}, after uint64) uint64 {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	queues := make([]*queue, len(to))
	for i, d := range to {
		queues[i] = &queue{messages: make(chan Message, waiting)}
		wg.Go(func() { n.send(ctx, d, queues[i]) })
	}
	for {
		events, newer := n.Events.After(after)
		for _, e := range events {
			after = e.Number
			topic := topicOf(e)
			for i, d := range to {
				if topic != "" && slices.Contains(d.Topics, topic) && !queues[i].put(message(topic, e)) {
					n.count(d.Name, "dropped")
				}
			}
		}
		select {
		case <-newer:
		case <-news:
			return after
		case <-ctx.Done():
			return after
		}
	}
}

func message(topic string, e eventlog.Event) Message {
	return Message{
		SchemaVersion: 1, Event: topic, Level: strings.ToLower(e.Level.String()), Time: e.Time.UTC(), Host: host(),
		Message: e.Message, Number: e.Number, Fields: e.Fields,
	}
}

func host() string {
	name, _ := os.Hostname()
	return name
}

// queue holds what waits for one destination.
type queue struct {
	messages chan Message

	mu      sync.Mutex
	dropped int
}

// put reports whether there was room.
func (q *queue) put(m Message) bool {
	select {
	case q.messages <- m:
		return true
	default:
		q.mu.Lock()
		defer q.mu.Unlock()
		q.dropped++
		return false
	}
}

// missed returns how many messages found no room since it was called last.
func (q *queue) missed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.dropped
	q.dropped = 0
	return d
}

// send delivers what is in the queue, one after the other.
func (n *Notifier) send(ctx context.Context, d Destination, q *queue) {
	for {
		select {
		case m := <-q.messages:
			m.Dropped = q.missed()
			err := d.deliver(ctx, m)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				n.count(d.Name, "failed")
				n.Log.Warn(own+"not delivered", "destination", d.Name, "event", m.Event, "number", m.Number, "error", err)
			default:
				n.count(d.Name, "sent")
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *Notifier) count(destination, how string) {
	if n.Count != nil {
		n.Count(destination, how)
	}
}

// ErrNoDestination says that none has that name.
var ErrNoDestination = errors.New("no such notification")

// Result is what came of a test.
type Result struct {
	Name   string
	Status int // of HTTP; 0: there was no answer
	Err    error
}

// Test sends a message to the destination that is named, or to all, once.
func (n *Notifier) Test(ctx context.Context, name string) ([]Result, error) {
	to, _ := n.destinations()
	var results []Result
	for _, d := range to {
		if name != "" && d.Name != name {
			continue
		}
		m := Message{SchemaVersion: 1, Event: "test", Level: "info", Time: time.Now().UTC(), Host: host(), Message: "this is a test"}
		status, err := d.attempt(ctx, m, time.Now())
		results = append(results, Result{d.Name, status, err})
	}
	if name != "" && len(results) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoDestination, name)
	}
	return results, nil
}
