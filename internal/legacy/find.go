package legacy

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// Leftover is a container whose name and labels look as if the older
// implementation had left it.
type Leftover struct {
	engine.Container
	Of   string // the name that it belongs to
	Mark string // old, dso_backup or dso_new
	When time.Time
}

// newer reports whether it was made to take over, and not the one before.
func (l Leftover) newer() bool { return l.Mark == "dso_new" }

var pattern = regexp.MustCompile(`^(.+)_(old|dso_backup|dso_new)_([0-9]+)$`)

// parse splits an intermediate name.
func parse(name string) (of, mark, digits string, ok bool) {
	m := pattern.FindStringSubmatch(name)
	if m == nil {
		return "", "", "", false
	}
	return m[1], m[2], m[3], true
}

// Find returns the leftovers among the containers, by name. ours says that a
// container belongs to a rotation of the journal.
func Find(containers []engine.Container, ours func(id string) bool) []Leftover {
	var out []Leftover
	for _, c := range containers {
		of, mark, digits, ok := parse(c.Name)
		if !ok || c.Label(label.Rotation) != "" || c.Label(label.Entry) != "" || ours(c.ID) {
			continue
		}
		out = append(out, Leftover{c, of, mark, moment(digits)})
	}
	slices.SortFunc(out, func(a, b Leftover) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return out
}

// earliest is before anything that could be called a leftover was written.
var earliest = time.Date(2013, 3, 1, 0, 0, 0, 0, time.UTC)

// moment reads a time in seconds, milliseconds, microseconds or nanoseconds since
// 1970; zero when the digits are none: web_old_2 is somebody's own name.
func moment(digits string) time.Time {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return time.Time{}
	}
	unit := map[int]time.Duration{10: time.Second, 13: time.Millisecond, 16: time.Microsecond, 19: time.Nanosecond}[len(digits)]
	if unit == 0 {
		return time.Time{}
	}
	per := int64(time.Second / unit)
	if t := time.Unix(n/per, n%per*int64(unit)).UTC(); t.After(earliest) {
		return t
	}
	return time.Time{}
}
