package window

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	x, err := time.Parse("2006-01-02 15:04:05", text)
	assert.NilError(t, err)
	return x
}

func TestOpens(t *testing.T) {
	for _, tc := range []struct {
		cron  string
		long  time.Duration
		now   string
		opens string // empty: it is open
	}{
		{"0 2 * * *", 2 * time.Hour, "2026-03-04 01:59:59", "2026-03-04 02:00:00"},
		{"0 2 * * *", 2 * time.Hour, "2026-03-04 02:00:00", ""},
		{"0 2 * * *", 2 * time.Hour, "2026-03-04 03:59:59", ""},
		{"0 2 * * *", 2 * time.Hour, "2026-03-04 04:00:00", "2026-03-05 02:00:00"},
		{"30 22 * * 5", 4 * time.Hour, "2026-03-07 02:29:00", ""}, // over midnight, from a Friday
		{"30 22 * * 5", 4 * time.Hour, "2026-03-07 02:30:00", "2026-03-13 22:30:00"},
		{"0 * * * *", time.Hour, "2026-03-07 02:30:00", ""},
		{"0 0 29 2 *", time.Hour, "2026-03-01 00:00:00", "2028-02-29 00:00:00"},
		{"0 2 * * *", 26 * time.Hour, "2026-03-04 01:00:00", ""}, // longer than its pauses
		{"CRON_TZ=Asia/Tokyo 0 2 * * *", time.Hour, "2026-03-04 17:30:00", ""},
	} {
		w, err := Parse(tc.cron, tc.long)
		assert.NilError(t, err)
		assert.Assert(t, w.Limits())
		got := w.Opens(at(t, tc.now))
		assert.Assert(t, got.Equal(at(t, tc.opens)), "%s for %s at %s: %s", tc.cron, tc.long, tc.now, got)
	}
	assert.Assert(t, Window{}.Opens(time.Now()).IsZero())
	assert.Assert(t, !Window{}.Limits())
}

func TestParse_Refuses(t *testing.T) {
	for _, text := range []string{"", "*", "0 2 * *", "0 2 * * * *", "@daily", "@every 1h", "61 * * * *", "0 0 30 2 *", "TZ=", "CRON_TZ=UTC", "TZ=Nowhere/City 0 2 * * *"} {
		_, err := Parse(text, time.Hour)
		assert.Assert(t, err != nil, "%q", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"0 2 * * *", "TZ=UTC 0 2 * * 1-5", "*/5 0-3,7 1 JAN SUN", "TZ="} {
		f.Add(text)
	}
	now := time.Now()
	f.Fuzz(func(_ *testing.T, text string) {
		if w, err := Parse(text, time.Hour); err == nil {
			w.Opens(now)
		}
	})
}
