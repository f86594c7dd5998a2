package metrics_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/metrics"
)

func TestHandler_ShowsWhatWasCounted(t *testing.T) {
	m, other := metrics.New(), metrics.New() // two in one process: nothing is global
	m.Events.Dropped.Inc()
	m.Events.Depth.Set(7)
	for _, tc := range []struct {
		m    *metrics.Metrics
		want string
	}{
		{m, "dso_events_dropped_total 1"}, {m, "dso_event_queue_depth 7"},
		{other, "dso_events_dropped_total 0"}, {other, "dso_event_queue_depth 0"},
	} {
		w := httptest.NewRecorder()
		tc.m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		assert.Assert(t, strings.Contains(w.Body.String(), tc.want+"\n"), "%q is not in:\n%s", tc.want, w.Body)
	}
}

// provider is one of which everything can be told.
func provider() []metrics.Provider {
	return []metrics.Provider{{
		Name: "vault", Version: 5, Value: 2, Answers: map[string]uint64{"ok": 4, "error": 3}, Failures: map[string]uint64{"timeout": 3},
		Open: true, Secrets: 9, Interval: 90 * time.Second, Good: time.UnixMilli(1500),
	}}
}

func TestWatch_ShowsWhatTheProvidersAreLikeNow(t *testing.T) {
	m := metrics.New()
	rows := provider()
	m.Watch(func() []metrics.Provider { return rows })
	for range 2 {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range []string{
			`dso_secret_requests_total{provider="vault",status="ok"} 4`, `dso_secret_requests_total{provider="vault",status="error"} 3`,
			`dso_backend_failures_total{error_type="timeout",provider="vault"} 3`,
			`dso_provider_calls_total{call="version",provider="vault"} ` + strconv.FormatUint(rows[0].Version, 10),
			`dso_provider_calls_total{call="value",provider="vault"} 2`, `dso_provider_circuit_open{provider="vault"} 1`,
			`dso_provider_secrets{provider="vault"} 9`, `dso_provider_poll_interval_seconds{provider="vault"} 90`,
			`dso_provider_last_success_timestamp_seconds{provider="vault"} 1.5`,
		} {
			assert.Assert(t, strings.Contains(w.Body.String(), want+"\n"), "%q is not in:\n%s", want, w.Body)
		}
		rows[0].Version++
	}
}

func TestStale_LooksOnceAndTellsHowManyAndTheOldest(t *testing.T) {
	m := metrics.New()
	looks, since := 0, []time.Time{}
	m.Stale(func() []time.Time { looks++; return since })
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	text := scrape()
	assert.Assert(t, strings.Contains(text, "dso_stale_containers 0\n") && strings.Contains(text, "dso_stale_age_seconds 0\n"), text)
	since = []time.Time{time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)}
	text = scrape()
	assert.Assert(t, strings.Contains(text, "dso_stale_containers 2\n") && strings.Contains(text, "dso_stale_age_seconds 3600."), text)
	assert.Equal(t, looks, 2)
}

func TestConfiguration_TellsThatTheFileIsNotWhatHolds(t *testing.T) {
	m := metrics.New()
	rejected := false
	m.Configuration(func() bool { return rejected })
	for _, want := range []string{"dso_configuration_rejected 0\n", "dso_configuration_rejected 1\n"} {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		assert.Assert(t, strings.Contains(w.Body.String(), want), w.Body)
		rejected = true
	}
}

func TestReference_ShowsTheMetricsAsTheyAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	assert.NilError(t, err)
	w := httptest.NewRecorder()
	m := metrics.New()
	m.Watch(provider)
	m.Stale(func() []time.Time { return nil })
	m.Configuration(func() bool { return false })
	m.Webhook.Requests.WithLabelValues("202").Inc()
	m.Open(func() metrics.Open { return metrics.Open{} })
	m.Rotations.End("rolling", "rotated", time.Second, false)
	m.Rotations.End("rolling", "rotated", time.Second, true)
	m.Agent.Start("delivered")
	m.Agent.Notification("ops", "sent")
	m.Agent.Began("v", time.Now())
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var rows []string
	help := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case words[0] != "#":
		case words[1] == "HELP":
			help[words[2]] = words[3]
		case words[1] == "TYPE":
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", words[2], words[3], help[words[2]]))
		}
	}
	assert.Assert(t, len(rows) > 0)
	want := "| metric | type | meaning |\n|---|---|---|\n" + strings.Join(rows, "")
	if before, _, ok := strings.Cut(string(page), "| metric |"); ok && golden.FlagUpdate() {
		assert.NilError(t, os.WriteFile("../../docs/reference/metrics.md", []byte(before+want), 0o644))
		return
	}
	assert.Assert(t, strings.HasSuffix(string(page), want), "docs/reference/metrics.md does not end with:\n%s", want)
}

func TestOpen_ShowsWhatIsNotOver(t *testing.T) {
	m := metrics.New()
	m.Open(func() metrics.Open {
		return metrics.Open{Pending: 2, NeedPerson: 1, Pinned: 3, Oldest: time.Now().Add(-time.Hour)}
	})
	m.Rotations.End("restart", "rolled_back", 90*time.Second, false)
	m.Rotations.End("rolling", "rotated", 4*time.Second, true)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		"dso_rotations_pending 2\n", "dso_rotations_need_person 1\n", "dso_containers_pinned 3\n", "dso_rotation_oldest_pending_seconds 3600.",
		`dso_rotations_total{outcome="rolled_back",strategy="restart"} 1`, `dso_rotation_duration_seconds_sum{strategy="restart"} 90`,
		`dso_recovery_duration_seconds_sum{outcome="rotated"} 4`,
	} {
		assert.Assert(t, strings.Contains(w.Body.String(), want), "%q is not in:\n%s", want, w.Body)
	}
}
