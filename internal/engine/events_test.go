package engine_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// An engine answers before the subscription stands: what happens in between must
// be in the stream.
func TestEvents_BeginWithWhatHappenedSinceTheCall(t *testing.T) {
	since := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if q := r.URL.Query(); q.Has("since") {
			since <- q.Get("since")
		}
	}))
	t.Cleanup(srv.Close)
	c, err := engine.Open("tcp://"+srv.Listener.Addr().String(), nil)
	assert.NilError(t, err)
	before := time.Now()
	c.Events(t.Context())
	after := time.Now()
	seconds, err := strconv.ParseFloat(<-since, 64)
	assert.NilError(t, err)
	got := time.Unix(0, int64(seconds*1e9))
	const rounding = time.Millisecond
	assert.Assert(t, got.After(before.Add(-rounding)) && got.Before(after.Add(rounding)), "%s", got)
}
