// Package agentlog owns the lines that the agent logs, JSON: how urgent each is to the
// journal, and, where there is no journal, which of them a person asked for.
package agentlog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Query says which lines are wanted.
type Query struct {
	Last     int       // at most so many of those that are there; 0: all
	Since    time.Time // zero: whenever
	Priority Priority  // this one and what is more urgent
}

// Priority is how urgent a line is, as syslog(3) counts.
type Priority int

// The priorities that the agent logs at.
const (
	Error   Priority = 3
	Warning Priority = 4
	Info    Priority = 6
	Debug   Priority = 7
)

// words are the names of the priorities, journalctl's and the agent's own.
var words = map[string]Priority{
	"emerg": 0, "alert": 1, "crit": 2, "err": Error, "error": Error, "warning": Warning, "warn": Warning,
	"notice": 5, "info": Info, "debug": Debug,
}

// ParsePriority reads a priority's name or number.
func ParsePriority(text string) (Priority, error) {
	if p, ok := words[strings.ToLower(text)]; ok {
		return p, nil
	}
	if len(text) == 1 && text[0] >= '0' && text[0] <= '7' {
		return Priority(text[0] - '0'), nil
	}
	return 0, fmt.Errorf("%q is no priority: there are error, warn, info and debug", text)
}

// ParseSince reads a moment: a date, a date with a time, or how long ago.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "-")); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no moment such as 1h30m, 2026-05-04 or 2026-05-04 03:02", text)
}

// Wants reports whether a line is among those that are wanted. One that is not the
// agent's, such as the end of a program that crashed, always is.
func (q Query) Wants(line string) bool {
	var l struct {
		Time  time.Time `json:"time"`
		Level string    `json:"level"`
	}
	if json.Unmarshal([]byte(line), &l) != nil {
		return true
	}
	if p, ok := words[strings.ToLower(l.Level)]; ok && p > q.Priority {
		return false
	}
	return l.Time.IsZero() || !l.Time.Before(q.Since)
}

// Copy writes the lines that are wanted. It reads to the end.
func (q Query) Copy(w io.Writer, r io.Reader) error {
	var kept []string
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" && q.Wants(line) {
			kept = append(kept, line)
			if q.Last > 0 && len(kept) > q.Last {
				kept = kept[1:]
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	for _, line := range kept {
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

// Follow writes the lines that are wanted as they come, until the reader ends.
func (q Query) Follow(w io.Writer, r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if q.Wants(lines.Text()) {
			if _, err := fmt.Fprintln(w, lines.Text()); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}
