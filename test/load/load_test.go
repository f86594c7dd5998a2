package load_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/load"
)

// server answers with what answer returns for the n-th request, and counts the
// connections.
func server(t *testing.T, answer func(n int64, w http.ResponseWriter)) (url string, requests, connections *atomic.Int64) {
	t.Helper()
	requests, connections = new(atomic.Int64), new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(requests.Add(1), w)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, requests, connections
}

func says(text string) func(int64, http.ResponseWriter) {
	return func(_ int64, w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
}

func run(t *testing.T, opts load.Options) *load.Result {
	t.Helper()
	result, err := load.Run(t.Context(), opts)
	assert.NilError(t, err)
	return result
}

func TestLoad_KeepsItsRateAndOpensAConnectionPerRequest(t *testing.T) {
	url, requests, connections := server(t, says("v1"))
	r := run(t, load.Options{URL: url, Rate: 500, Duration: time.Second})
	// What a busy machine kept this process from starting in time is missing, or
	// came after the end.
	late := int(r.LateMS * 500 / 1000)
	assert.Assert(t, r.Requests >= 450-late && r.Requests <= 501+late, "%d requests, %.0f ms late", r.Requests, r.LateMS)
	assert.Equal(t, int64(r.Requests), requests.Load())
	assert.Equal(t, int64(r.Requests), connections.Load())
	assert.Equal(t, r.Failed, 0)
	assert.Equal(t, r.Answer("v1").Count, r.Requests)
}

func TestLoad_KeepAliveUsesFewConnections(t *testing.T) {
	url, _, connections := server(t, says("v1"))
	r := run(t, load.Options{URL: url, Rate: 300, Duration: time.Second / 2, KeepAlive: true, Connections: 4})
	assert.Assert(t, r.Requests > 100)
	assert.Assert(t, connections.Load() <= 4, "%d connections", connections.Load())
}

func TestLoad_CountsBadAnswersByCause(t *testing.T) {
	url, _, _ := server(t, func(n int64, w http.ResponseWriter) {
		switch n % 4 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0) // close with a reset
				_ = conn.Close()
			}
		default:
			_, _ = io.WriteString(w, "v1")
		}
	})
	r := run(t, load.Options{URL: url, Rate: 100, Duration: time.Second / 2})
	assert.Assert(t, r.Failures["status_503"] > 5, "%v", r.Failures)
	assert.Assert(t, r.Failures["reset"] > 5, "%v", r.Failures)
	assert.Equal(t, r.Failures["status_503"]+r.Failures["reset"], r.Failed)
	assert.Equal(t, r.Answer("v1").Count+r.Failed, r.Requests)
	assert.Assert(t, len(r.Errors) > 0 && r.Errors[0].Error != "")
}

func TestLoad_CountsRefusedAndTimeouts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	silent := "http://" + l.Addr().String()
	r := run(t, load.Options{URL: silent, Rate: 50, Duration: 100 * time.Millisecond, Timeout: 200 * time.Millisecond})
	assert.Assert(t, r.Requests > 0)
	assert.Equal(t, r.Failures["timeout"], r.Requests)

	assert.NilError(t, l.Close())
	r = run(t, load.Options{URL: silent, Rate: 50, Duration: 100 * time.Millisecond})
	assert.Equal(t, r.Failures["refused"], r.Requests)
	assert.Assert(t, r.GapMS >= 90, "an outage to the end is a gap, not %v", r.GapMS)
}

func TestLoad_AStallCostsEveryRequestThatWasDue(t *testing.T) {
	var until atomic.Int64
	url, _, _ := server(t, func(n int64, w http.ResponseWriter) {
		if n == 1 {
			until.Store(time.Now().Add(300 * time.Millisecond).UnixNano())
		}
		time.Sleep(time.Until(time.Unix(0, until.Load()))) // the stall itself
		_, _ = io.WriteString(w, "v1")
	})
	r := run(t, load.Options{URL: url, Rate: 100, Duration: 600 * time.Millisecond})
	assert.Assert(t, r.Requests > 50, "the rate went on: %d", r.Requests)
	assert.Assert(t, r.P50MS > 0 && r.P99MS > 200, "p99 %v ms", r.P99MS)
	assert.Assert(t, r.GapMS > 250, "gap %v ms", r.GapMS)
}

func TestLoad_TimelineShowsWhenAnAnswerChanged(t *testing.T) {
	url, _, _ := server(t, func(n int64, w http.ResponseWriter) {
		if n <= 20 {
			_, _ = io.WriteString(w, "v1\n")
			return
		}
		_, _ = io.WriteString(w, "v2\n")
	})
	r := run(t, load.Options{URL: url, Rate: 100, Duration: time.Second / 2})
	v1, v2 := r.Answer("v1"), r.Answer("v2")
	assert.Equal(t, v1.Count, 20)
	assert.Equal(t, v1.Count+v2.Count, r.Requests)
	assert.Assert(t, v1.FirstAt < v1.LastAt && v1.LastAt < v2.LastAt)
	assert.Assert(t, v2.FirstAt > 150 && v2.FirstAt < v2.LastAt, "v2 first at %v ms", v2.FirstAt) // the 21st was due after 200 ms
	assert.Assert(t, r.Answer("v3") == nil)
}

func TestLoad_CountsAnswersOlderThanTheFloor(t *testing.T) {
	floor := filepath.Join(t.TempDir(), "floor")
	for _, tc := range []struct {
		floor, answer string
		wrong         bool
	}{
		{"", "v1", false}, {"v2", "v2", false}, {"v2", "v10", false},
		{"v2", "v1", true}, {"v10", "v9", true}, {"v2", "no marker", true},
	} {
		url, _, _ := server(t, says(tc.answer))
		if tc.floor != "" {
			assert.NilError(t, os.WriteFile(floor, []byte(tc.floor+"\n"), 0o600))
		}
		r := run(t, load.Options{URL: url, Rate: 100, Duration: 100 * time.Millisecond, FloorFile: floor})
		assert.Assert(t, r.Requests > 0)
		want := 0
		if tc.wrong {
			want = r.Requests
		}
		assert.Equal(t, r.WrongVersion, want, "%+v", tc)
	}
}

func TestLoad_FloorIsTheOneAtTheStartOfTheRequest(t *testing.T) {
	floor := filepath.Join(t.TempDir(), "floor")
	var set atomic.Bool
	url, _, _ := server(t, func(_ int64, w http.ResponseWriter) {
		// The floor rises while the request is under way: the old answer is fine.
		if set.CompareAndSwap(false, true) {
			_ = os.WriteFile(floor, []byte("v2"), 0o600)
			_, _ = io.WriteString(w, "v1")
			return
		}
		_, _ = io.WriteString(w, "v2")
	})
	r := run(t, load.Options{URL: url, Rate: 50, Duration: 200 * time.Millisecond, FloorFile: floor})
	assert.Equal(t, r.Answer("v1").Count, 1)
	assert.Equal(t, r.WrongVersion, 0)
}

func TestLoad_StopsForTheFileAndForItsContext(t *testing.T) {
	url, requests, _ := server(t, says("v1"))
	stop := filepath.Join(t.TempDir(), "stop")
	time.AfterFunc(100*time.Millisecond, func() { _ = os.WriteFile(stop, nil, 0o600) })
	r := run(t, load.Options{URL: url, Rate: 100, StopFile: stop})
	assert.Assert(t, r.Requests > 0)
	assert.Equal(t, int64(r.Requests), requests.Load(), "all requests were waited for")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := load.Run(ctx, load.Options{URL: url, Rate: 100})
	assert.NilError(t, err)
	assert.Assert(t, r.Requests > 0)
	assert.Equal(t, r.Failed, 0, "requests in flight end well: %v", r.Errors)
}

func TestLoad_RefusesWhatItCannotDo(t *testing.T) {
	_, err := load.Run(t.Context(), load.Options{URL: "nonsense", Rate: 1})
	assert.ErrorContains(t, err, "not a URL")
	_, err = load.Run(t.Context(), load.Options{URL: "http://127.0.0.1"})
	assert.ErrorContains(t, err, "rate")
}
