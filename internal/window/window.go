package window

import (
	"errors"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Window says when rotations may begin. The zero value is always open.
type Window struct {
	Cron   string
	Length time.Duration

	schedule cron.Schedule // nil: always open
}

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// Why an expression is refused. The parser's own errors quote the expression, which may
// come from a variable.
var (
	errSyntax = errors.New("is not a cron expression: minute, hour, day of the month, month, day of the week (0 to 6, 0 is Sunday)")
	errZone   = errors.New("has a time zone and no schedule, or one that does not exist")
	errNever  = errors.New("is a day that never comes")
)

// Parse returns the window that a cron expression opens: minute, hour, day of the
// month, month and day of the week, in the time zone of the host, or in that of a
// CRON_TZ=Europe/Berlin in front.
func Parse(expression string, length time.Duration) (Window, error) {
	zone, rest, more := strings.Cut(expression, " ")
	_, name, zoned := strings.Cut(zone, "TZ=")
	if zoned && !more {
		return Window{}, errZone // the parser panics
	}
	if _, err := time.LoadLocation(name); zoned && (err != nil || strings.TrimSpace(rest) == "") {
		return Window{}, errZone
	}
	s, err := parser.Parse(expression)
	if err != nil {
		return Window{}, errSyntax
	}
	if s.Next(time.Now()).IsZero() {
		return Window{}, errNever
	}
	return Window{Cron: expression, Length: length, schedule: s}, nil
}

// Limits reports whether the window is ever closed.
func (w Window) Limits() bool { return w.schedule != nil }

// Opens returns when the window opens next; zero: it is open.
func (w Window) Opens(now time.Time) time.Time {
	if w.schedule == nil {
		return time.Time{}
	}
	// It is open when it opened since now - Length, that very moment not included.
	opens := w.schedule.Next(now.Add(-w.Length))
	if !opens.After(now) {
		return time.Time{}
	}
	return opens
}
