package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
)

// keepPast is how many rotations that are over the history remembers one by one.
const keepPast = 200

// historyFormat is the form of the file that this version writes.
const historyFormat = 1

// History is what came of the rotations that are over. The journal has one entry per
// container, so it forgets one with the next; the history counts them all, and knows the
// last of them. It is safe for concurrent use by one process.
type History struct {
	path string

	mu   sync.Mutex
	file historyFile
}

type historyFile struct {
	Format int `json:"format"`
	Totals
	Past []Entry `json:"past"` // oldest first, without what steps need
}

// Totals counts rotations since the state directory was made.
type Totals struct {
	Successful int     `json:"successful"` // the new versions serve
	Failed     int     `json:"failed"`     // all others
	Seconds    float64 `json:"seconds"`    // that the successful ones took in all
}

// OpenHistory reads the history at path, as [OpenJournal] does the journal.
func OpenHistory(path string, now time.Time) (*History, error) {
	h := &History{path: path}
	err := durable.LoadState(path, now, func(data []byte) error {
		var file historyFile
		if err := json.Unmarshal(data, &file); err != nil {
			return err
		}
		if file.Format > historyFormat {
			return fmt.Errorf("it has format %d, this version knows %d: %w", file.Format, historyFormat, durable.ErrNewer)
		}
		h.file = file
		return nil
	})
	var corrupt *durable.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	return h, err
}

// Note remembers rotations that are over, each once. Those that are not are left out.
func (h *History) Note(entries ...Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.file
	next.Format, next.Past = historyFormat, slices.Clone(next.Past)
	known := len(next.Past)
	for _, e := range entries {
		// What is older than all that is remembered was counted, and is forgotten again.
		forgotten := known == keepPast && e.LastUpdate.Before(next.Past[0].LastUpdate)
		if e.Unfinished() || forgotten || slices.ContainsFunc(next.Past, e.is) {
			continue
		}
		next.Past = append(next.Past, e.past())
		if e.Outcome == OutcomeRotated || e.Outcome == OutcomeAdopted {
			next.Successful++
			next.Seconds += e.LastUpdate.Sub(e.StartTime).Seconds()
		} else {
			next.Failed++
		}
	}
	if len(next.Past) == known {
		return nil
	}
	next.Past = next.Past[max(0, len(next.Past)-keepPast):]
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode history: %w", err)
	}
	if err := durable.SaveState(h.path, append(data, '\n')); err != nil {
		return err
	}
	h.file = next
	return nil
}

// is reports whether two entries are of one rotation. An id has a resolution of one second,
// and files in place change in less.
func (e Entry) is(o Entry) bool {
	return e.ID == o.ID && e.Key() == o.Key() && e.StartTime.Equal(o.StartTime)
}

// past is the entry without what only its steps needed. Of the container it keeps what
// says which one it was.
func (e Entry) past() Entry {
	was := engine.Container{ID: e.Original.ID, Name: e.Original.Name}
	labels := map[string]string{}
	for _, l := range []string{engine.LabelComposeProject, engine.LabelComposeService} {
		if v := e.Original.Label(l); v != "" {
			labels[l] = v
		}
	}
	if len(labels) > 0 {
		was.Spec.Config = &container.Config{Labels: labels}
	}
	e.Original = was
	e.Front, e.Dependants, e.Ports, e.Command, e.Timing = nil, nil, nil, nil, Timing{}
	return e
}

// Past returns the rotations that the history remembers, oldest first.
func (h *History) Past() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.file.Past)
}

// And returns what the history remembers, and what of the journal it does not: what is not
// over, and what has ended in this very moment.
func (h *History) And(j *Journal) []Entry {
	entries := j.All() // first: what ends meanwhile is in one of them
	all := h.Past()
	for _, e := range entries {
		if !slices.ContainsFunc(all, e.is) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return a.StartTime.Compare(b.StartTime) })
	return all
}

// Totals counts them all.
func (h *History) Totals() Totals {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file.Totals
}
