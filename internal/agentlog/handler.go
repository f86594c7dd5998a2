package agentlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// handler writes JSON, each line after its priority, as sd-daemon(3) has it: the journal
// takes the prefix off and knows how urgent the line is.
type handler struct{ by map[Priority]slog.Handler }

// NewHandler returns a handler of log/slog that writes JSON to a journal.
func NewHandler(w io.Writer, options *slog.HandlerOptions) slog.Handler {
	h := handler{map[Priority]slog.Handler{}}
	for _, p := range []Priority{Error, Warning, Info, Debug} {
		h.by[p] = slog.NewJSONHandler(prefixed{w, fmt.Appendf(nil, "<%d>", p)}, options)
	}
	return h
}

func priorityOf(level slog.Level) Priority {
	switch {
	case level >= slog.LevelError:
		return Error
	case level >= slog.LevelWarn:
		return Warning
	case level >= slog.LevelInfo:
		return Info
	}
	return Debug
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.by[priorityOf(level)].Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	return h.by[priorityOf(r.Level)].Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithAttrs(attrs) })
}

func (h handler) WithGroup(name string) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithGroup(name) })
}

func (h handler) each(change func(slog.Handler) slog.Handler) slog.Handler {
	out := handler{map[Priority]slog.Handler{}}
	for p, one := range h.by {
		out.by[p] = change(one)
	}
	return out
}

// prefixed writes each line, which comes in one piece, after a prefix.
type prefixed struct {
	w      io.Writer
	prefix []byte
}

func (p prefixed) Write(line []byte) (int, error) {
	if _, err := p.w.Write(append(p.prefix[:len(p.prefix):len(p.prefix)], line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
