package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// metrics scrapes the agent.
func (h *host) metrics() string {
	h.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.HostPath("/run/dso/dso.sock"))
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://dso/metrics")
	assert.NilError(h.t, err)
	text, err := io.ReadAll(resp.Body)
	assert.NilError(h.t, errors.Join(err, resp.Body.Close()))
	assert.Check(h.t, is.Equal(resp.StatusCode, http.StatusOK))
	return string(text)
}

func TestMetrics_AreOnTheAgentsSocket(t *testing.T) {
	h := sharedHost(t)
	for _, want := range []string{"\ndso_events_dropped_total 0\n", "\ndso_event_queue_depth 0\n"} {
		assert.Check(t, is.Contains(h.metrics(), want))
	}
}
