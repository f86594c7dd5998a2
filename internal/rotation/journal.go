package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// keepFinished is how many finished rotations the journal remembers.
const keepFinished = 50

// journalFormat is the form of the entries that this version writes. A version that
// gives entries a meaning that the ones before would get wrong counts it up.
const journalFormat = 1

// stored is an entry as it stands in the file.
type stored struct {
	Format int `json:"format"` // 0 before there were any
	Entry
}

// Journal is the durable record of the rotations: one JSON object, one entry per
// container. It is safe for concurrent use by one process.
type Journal struct {
	path string

	mu      sync.Mutex
	entries map[string]Entry
}

// OpenJournal reads the journal at path; a missing file is an empty journal. With
// a [*durable.CorruptError] the returned journal is usable: it holds the generation
// before, or nothing.
func OpenJournal(path string, now time.Time) (*Journal, error) {
	j := &Journal{path: path, entries: map[string]Entry{}}
	err := durable.LoadState(path, now, func(data []byte) error {
		entries, err := decodeJournal(data)
		if err == nil {
			j.entries = entries
		}
		return err
	})
	var corrupt *durable.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	return j, err
}

func decodeJournal(data []byte) (map[string]Entry, error) {
	var file map[string]stored
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	if file == nil {
		return nil, errors.New("it holds no JSON object")
	}
	entries := make(map[string]Entry, len(file))
	for key, e := range file {
		if e.Format > journalFormat {
			return nil, fmt.Errorf("entry %q has format %d, this version knows %d: %w; install that version again, or let it end its rotations first",
				key, e.Format, journalFormat, durable.ErrNewer)
		}
		if e.Key() != key {
			return nil, fmt.Errorf("entry %q describes %q", key, e.Key())
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %q: %w", key, err)
		}
		entries[key] = e.Entry
	}
	return entries, nil
}

// Save makes the entry durable. It returns only when a power cut can no longer
// lose it.
func (j *Journal) Save(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := maps.Clone(j.entries)
	next[e.Key()] = e
	prune(next)
	file := make(map[string]stored, len(next))
	for key, e := range next {
		file[key] = stored{journalFormat, e}
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	data = append(data, '\n')
	if err := durable.SaveState(j.path, data); err != nil {
		return err
	}
	j.entries = next
	if e.Pending() {
		return nil
	}
	// The generation before must know it too. If it were read one day, what is over
	// would begin again, and bring back what a person has removed since.
	return durable.SaveState(j.path, data)
}

// Pending returns the rotations that are not finished, oldest first.
func (j *Journal) Pending() []Entry {
	return slices.DeleteFunc(j.All(), func(e Entry) bool { return !e.Pending() })
}

// Unfinished returns what is pending or needs a person, oldest first.
func (j *Journal) Unfinished() []Entry {
	return slices.DeleteFunc(j.All(), func(e Entry) bool { return !e.Unfinished() })
}

// All returns every rotation the journal remembers, oldest first.
func (j *Journal) All() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.SortedFunc(maps.Values(j.entries), func(a, b Entry) int {
		if c := a.StartTime.Compare(b.StartTime); c != 0 {
			return c
		}
		return strings.Compare(a.Key(), b.Key())
	})
}

// prune forgets the oldest finished rotations. What is pending or needs a
// person stays.
func prune(entries map[string]Entry) {
	var finished []Entry
	for _, e := range entries {
		if !e.Pending() && e.Status != StatusCritical {
			finished = append(finished, e)
		}
	}
	if len(finished) <= keepFinished {
		return
	}
	slices.SortFunc(finished, func(a, b Entry) int { return a.LastUpdate.Compare(b.LastUpdate) })
	for _, e := range finished[:len(finished)-keepFinished] {
		delete(entries, e.Key())
	}
}

// Concerns reports whether a pending rotation is about the container, which must
// have an id.
func (j *Journal) Concerns(containerID string) bool {
	return slices.ContainsFunc(j.Pending(), func(e Entry) bool {
		return e.Concerns(containerID)
	})
}

// Adopt records entries that were rebuilt from the containers, but for those whose
// rotation the journal knows. It returns the ones it took.
func (j *Journal) Adopt(entries []Entry) ([]Entry, error) {
	known := j.All()
	var taken []Entry
	for _, e := range entries {
		if slices.ContainsFunc(known, func(k Entry) bool { return k.ID == e.ID }) {
			continue
		}
		if err := j.Save(e); err != nil {
			return taken, err
		}
		taken = append(taken, e)
	}
	return taken, nil
}
