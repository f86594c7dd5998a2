package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// keepFinished is how many finished rotations the journal remembers.
const keepFinished = 50

// Journal is the durable record of the rotations: one JSON object, one entry per
// container. It is safe for concurrent use by one process.
type Journal struct {
	path string

	mu      sync.Mutex
	entries map[string]Entry
}

// CorruptError says that the journal's file could not be read and was moved
// aside, so that nothing is lost and the agent can start.
type CorruptError struct {
	Path       string // of the journal
	Quarantine string // where its content lies now
	Err        error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("failed to unmarshal state %s: %v; its content was moved to %s", e.Path, e.Err, e.Quarantine)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// OpenJournal reads the journal at path; a missing file is an empty journal. With
// a [*CorruptError] the returned journal is empty and usable.
func OpenJournal(path string, now time.Time) (*Journal, error) {
	j := &Journal{path: path, entries: map[string]Entry{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		var entries map[string]Entry
		if entries, err = decodeJournal(data); err == nil {
			j.entries = entries
			return j, nil
		}
	}
	aside := quarantine(path, now)
	if mvErr := durable.Rename(path, aside); mvErr != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, errors.Join(err, mvErr))
	}
	return j, &CorruptError{Path: path, Quarantine: aside, Err: err}
}

// quarantine returns a path for an unreadable journal, on which nothing lies yet.
func quarantine(path string, now time.Time) string {
	base := fmt.Sprintf("%s.corrupt-%s", path, now.UTC().Format("20060102T150405Z"))
	aside := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); err != nil {
			return aside
		}
		aside = fmt.Sprintf("%s-%d", base, n)
	}
}

func decodeJournal(data []byte) (map[string]Entry, error) {
	var entries map[string]Entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	if entries == nil {
		return nil, errors.New("it holds no JSON object")
	}
	for key, e := range entries {
		if e.Key() != key {
			return nil, fmt.Errorf("entry %q describes %q", key, e.Key())
		}
		if e.Pending() && !slices.Contains(program(e.Strategy, e.Back), e.Step) {
			return nil, fmt.Errorf("entry %q is at step %q, which strategy %q does not have", key, e.Step, e.Strategy)
		}
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
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	if err := durable.WriteFile(j.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	j.entries = next
	return nil
}

// Pending returns the rotations that are not finished, oldest first.
func (j *Journal) Pending() []Entry {
	return slices.DeleteFunc(j.All(), func(e Entry) bool { return !e.Pending() })
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

// Concerns reports whether a pending rotation is about the container.
func (j *Journal) Concerns(containerID string) bool {
	return slices.ContainsFunc(j.Pending(), func(e Entry) bool {
		return e.OriginalContainerID == containerID || e.NewContainerID == containerID
	})
}
