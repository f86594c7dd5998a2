package eventlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Event is one thing that happened.
type Event struct {
	Number  uint64 // from 1, without a gap
	Time    time.Time
	Level   slog.Level
	Message string
	Fields  map[string]any
}

// Log is the events of one agent. It is safe for concurrent use.
type Log struct {
	keep int

	mu    sync.Mutex
	last  uint64
	kept  []Event
	newer chan struct{} // closed when there is a newer one
}

// New returns a log that keeps so many events.
func New(keep int) *Log { return &Log{keep: keep, newer: make(chan struct{})} }

// After returns what is kept of the events after the given number, oldest first,
// and a channel that is closed when there is a newer one.
func (l *Log) After(number uint64) (events []Event, newer <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := slices.IndexFunc(l.kept, func(e Event) bool { return e.Number > number })
	if first < 0 {
		return nil, l.newer
	}
	return slices.Clone(l.kept[first:]), l.newer
}

func (l *Log) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Number = l.last
	l.kept = append(l.kept, e)
	if len(l.kept) > l.keep {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	close(l.newer)
	l.newer = make(chan struct{})
}

// Handler returns a handler that passes everything on to next, and keeps what is an
// event.
func (l *Log) Handler(next slog.Handler) slog.Handler { return handler{log: l, next: next} }

type handler struct {
	log   *Log
	next  slog.Handler
	attrs []slog.Attr
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		fields := map[string]any{}
		put := func(a slog.Attr) bool {
			fields[a.Key] = plain(a.Value)
			return true
		}
		for _, a := range h.attrs {
			put(a)
		}
		r.Attrs(put)
		h.log.add(Event{Time: r.Time, Level: r.Level, Message: r.Message, Fields: fields})
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// plain is a value as JSON shows it: an error is its text.
func plain(v slog.Value) any {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindDuration, slog.KindTime:
		return v.String()
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return err.Error()
		}
		return v.String()
	}
	return v.Any()
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.log, h.next.WithAttrs(attrs), slices.Concat(h.attrs, attrs)}
}

// WithGroup leaves the fields of an event flat: the agent uses no groups.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.log, h.next.WithGroup(name), h.attrs}
}
