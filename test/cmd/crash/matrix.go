package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// matrix is what became of every point.
type matrix struct {
	began    time.Time
	thorough bool              // on the real engine each fault at each place; otherwise they take turns
	memory   map[string]*count // on the in-memory engine, by point

	mu       sync.Mutex        // what follows is of all series
	real     map[string]*count // on the real engine
	disaster []disaster
	calls    []disaster // deaths at calls of the engine
	requests int
	failed   int
	wrong    int // answers with a version older than the one that was reported
}

type count struct{ passed, failed int }

func (c *count) add(ok bool) {
	if ok {
		c.passed++
	} else {
		c.failed++
	}
}

// disaster is a death of more than the agent, on the real engine.
type disaster struct {
	series, what, point string
	ok                  bool
}

// survived notes what became of a death at a point of the real engine.
func (m *matrix) survived(point string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of(m.real, point).add(ok)
}

// more notes what became of more than the death of an agent.
func (m *matrix) more(list *[]disaster, d disaster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*list = append(*list, d)
}

func newMatrix(began time.Time) *matrix {
	return &matrix{began: began, memory: map[string]*count{}, real: map[string]*count{}}
}

func (m *matrix) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(m.began).Seconds(), fmt.Sprintf(format, args...))
}

func of(counts map[string]*count, point string) *count {
	c := counts[point]
	if c == nil {
		c = &count{}
		counts[point] = c
	}
	return c
}

// totals counts the deaths that were tried and those that were survived.
func (m *matrix) totals() (tried, passed, real int) {
	for _, counts := range []map[string]*count{m.memory, m.real} {
		for _, c := range counts {
			tried += c.passed + c.failed
			passed += c.passed
		}
	}
	for _, c := range m.real {
		real += c.passed + c.failed
	}
	for _, d := range slices.Concat(m.disaster, m.calls) {
		tried++
		real++
		if d.ok {
			passed++
		}
	}
	return tried, passed, real
}

func (m *matrix) line() string {
	tried, passed, real := m.totals()
	return fmt.Sprintf("crash: points=%d passed=%d real_engine_points=%d requests_failed=%d", tried, passed, real, m.failed+m.wrong)
}

func (m *matrix) good() bool {
	tried, passed, _ := m.totals()
	return tried > 0 && tried == passed && m.failed+m.wrong == 0
}

const intro = `# The crash matrix

Written by ` + "`make crash`" + `; do not edit. A test checks that every point of the program is here.

A rotation can be cut off at three moments of each step: when the journal says that the
step is next (*recorded*), when its effect is about to begin (*before*) and when its effect
has happened and nothing says so yet (*after*). At each the agent is killed with SIGKILL and
another one is started. A cell says how often that was survived: on the in-memory engine
(with an engine restart, a lost journal or a minute in between, a second death, an error
instead of the effect, an engine that is away, a record that cannot be written, SIGTERM; with
a front, an anonymous volume, a container in the original's network, three replicas) **+** on a
real engine, where it dies when the effect has happened: what dies before an effect leaves the
engine as the step before did. ` + "`bin/crash -thorough`" + ` does that there too.

The phases adopt, recreate and yield are reached when a person removes the original or takes
its name in the middle; on the real engine the agent dies after each of their steps.

Survived means, on the real engine: the place holds one healthy container; its version is the
one that the end state names, as reported and as answered; no container, lock, bundle, mount,
pin or pending entry is left over; a pin is there after a roll-back and only then; no value is on
the disk (engine, agent, logs); and the load on the rolling service, which runs while agents die, had no failed request.
`

// page is the matrix as Markdown.
func (m *matrix) page() string {
	var b strings.Builder
	b.WriteString(intro)
	_, _ = fmt.Fprintf(&b, "\nThe last run: `%s`, with %d requests while agents died.\n", m.line(), m.requests)
	for _, s := range rotation.Strategies {
		_, _ = fmt.Fprintf(&b, "\n## %s\n\n| phase | step | recorded | before | after | end state |\n|---|---|---|---|---|---|\n", s)
		b.WriteString(m.rows(s))
	}
	b.WriteString("\n## More than the agent, and other faults\n\nOn the real engine; requests cannot survive the death of the engine, everything else above holds.\n\n| what dies or fails | at | survived |\n|---|---|---|\n")
	for _, d := range inOrder(m.disaster) {
		_, _ = fmt.Fprintf(&b, "| %s | `%s` | %s |\n", d.what, d.point, yes(d.ok))
	}
	b.WriteString("\n## At every call of the engine\n\nA proxy between agent and engine, which knows nothing of steps, strikes at each call that changes\nsomething: before it, or when the engine has done it and nobody was told.\n\n| at | survived |\n|---|---|\n")
	for _, d := range inOrder(m.calls) {
		_, _ = fmt.Fprintf(&b, "| %s | %s |\n", noIDs.ReplaceAllString(d.point, "ID"), yes(d.ok))
	}
	return b.String()
}

// inOrder puts side by side what happened in several series at once.
func inOrder(all []disaster) []disaster {
	return slices.SortedStableFunc(slices.Values(all), func(a, b disaster) int {
		return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.what, b.what))
	})
}

// noIDs keeps the page the same from run to run.
var noIDs = regexp.MustCompile(`[0-9a-f]{64}`)

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "**NO**"
}

var ends = map[rotation.Phase]string{
	rotation.Forward:  "new version",
	rotation.Back:     "old version, pinned",
	rotation.Adopt:    "new version",
	rotation.Recreate: "old version; new version later, if it is not the cause",
	rotation.Yield:    "the person's container",
}

func (m *matrix) rows(s rotation.Strategy) string {
	var b strings.Builder
	var step rotation.Point
	cells := map[string]string{}
	flush := func() {
		if step.Step == "" {
			return
		}
		_, _ = fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s |\n", step.Phase, step.Step,
			cells[rotation.Recorded], cells[rotation.Before], cells[rotation.After], ends[step.Phase])
	}
	for _, p := range rotation.Points() {
		if p.Strategy != s {
			continue
		}
		if p.Step != step.Step || p.Phase != step.Phase {
			flush()
			step, cells = p, map[string]string{}
		}
		cells[p.Moment] = m.cell(p.String())
	}
	flush()
	return b.String()
}

// cell is "in-memory + real"; a failure stands out.
func (m *matrix) cell(point string) string {
	memory, real := of(m.memory, point), of(m.real, point)
	text := fmt.Sprint(memory.passed)
	if real.passed+real.failed > 0 {
		text += fmt.Sprintf(" + %d", real.passed)
	}
	if n := memory.failed + real.failed; n > 0 {
		text += fmt.Sprintf(" **%d FAILED**", n)
	}
	return text
}

// missing are the points that the in-memory rotations never passed.
func (m *matrix) missing() []string {
	var names []string
	for _, p := range rotation.Points() {
		if m.memory[p.String()] == nil {
			names = append(names, p.String())
		}
	}
	slices.Sort(names)
	return names
}
