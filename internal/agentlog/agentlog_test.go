package agentlog_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/agentlog"
)

const sample = `{"time":"2026-05-04T03:00:00Z","level":"info","msg":"one"}
{"time":"2026-05-04T03:01:00Z","level":"warn","msg":"two"}
panic: three
{"time":"2026-05-04T03:02:00Z","level":"debug","msg":"four"}
{"time":"2026-05-04T03:03:00Z","level":"error","msg":"five"}
`

func chosen(t *testing.T, q agentlog.Query, copy func(agentlog.Query, *strings.Builder) error) string {
	t.Helper()
	var out strings.Builder
	assert.NilError(t, copy(q, &out))
	var words []string
	for _, w := range []string{"one", "two", "three", "four", "five"} {
		if strings.Contains(out.String(), w) {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

func TestQuery_ChoosesByPriorityTimeAndNumber(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 1, 0, 0, time.UTC)
	for want, q := range map[string]agentlog.Query{
		"one two three four five": {Priority: agentlog.Debug},
		"one two three five":      {Priority: agentlog.Info},
		"two three five":          {Priority: agentlog.Warning},
		"three five":              {Priority: agentlog.Error},
		"two three four five":     {Priority: agentlog.Debug, Since: at},
		"four five":               {Priority: agentlog.Debug, Last: 2},
	} {
		got := chosen(t, q, func(q agentlog.Query, out *strings.Builder) error { return q.Copy(out, strings.NewReader(sample)) })
		assert.Equal(t, got, want)
		if q.Last == 0 {
			got = chosen(t, q, func(q agentlog.Query, out *strings.Builder) error { return q.Follow(out, strings.NewReader(sample)) })
			assert.Equal(t, got, want)
		}
	}
}

func TestCopy_KeepsALastLineWithoutANewline(t *testing.T) {
	var out strings.Builder
	assert.NilError(t, agentlog.Query{Priority: agentlog.Debug}.Copy(&out, strings.NewReader("a\nb")))
	assert.Equal(t, out.String(), "a\nb")
}

func TestParse_SaysWhatItTakes(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"1h30m": now.Add(-90 * time.Minute), "-10m": now.Add(-10 * time.Minute), "2026-05-01": time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC),
		"2026-05-01 10:20": time.Date(2026, 5, 1, 10, 20, 0, 0, time.UTC),
	} {
		got, err := agentlog.ParseSince(text, now)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
	}
	_, err := agentlog.ParseSince("yesterday-ish", now)
	assert.ErrorContains(t, err, "no moment such as")
	for text, want := range map[string]agentlog.Priority{"warn": 4, "WARNING": 4, "3": 3, "error": 3} {
		got, err := agentlog.ParsePriority(text)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
	}
	_, err = agentlog.ParsePriority("loud")
	assert.ErrorContains(t, err, "there are error, warn, info and debug")
}

func TestHandler_TellsTheJournalHowUrgentALineIs(t *testing.T) {
	var out strings.Builder
	log := slog.New(agentlog.NewHandler(&out, nil)).With("a", 1)
	log.Info("one")
	log.WithGroup("g").Warn("two", "b", 2)
	log.Error("three")
	log.Debug("four")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	assert.Equal(t, len(lines), 3)
	for i, want := range []string{"<6>{", "<4>{", "<3>{"} {
		assert.Assert(t, strings.HasPrefix(lines[i], want), lines[i])
	}
	assert.Assert(t, strings.Contains(lines[1], `"a":1,"g":{"b":2}`), lines[1])
}
