package metrics_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

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

func TestReference_ShowsTheMetricsAsTheyAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	assert.NilError(t, err)
	w := httptest.NewRecorder()
	metrics.New().Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
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
	assert.Assert(t, strings.HasSuffix(string(page), want), "docs/reference/metrics.md does not end with:\n%s", want)
}
