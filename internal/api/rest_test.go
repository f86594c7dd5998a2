package api_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/secret"
)

const restToken = "a token of the REST"

func noToken() (secret.Value, bool, error) { return secret.Value{}, false, nil }

func withToken() (secret.Value, bool, error) { return secret.NewValue([]byte(restToken)), true, nil }

// serveTCP serves the REST until the test ends; stop ends it before.
func serveTCP(t *testing.T, b api.Backend, token api.Token) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	log := slog.New(slog.DiscardHandler)
	go func() { ended <- api.ServeTCP(ctx, l, api.REST(b, token, log), log) }()
	t.Cleanup(func() { cancel(); assert.Check(t, <-ended) })
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string, header ...string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	assert.NilError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	assert.NilError(t, err)
	text, err := io.ReadAll(resp.Body)
	assert.NilError(t, err)
	assert.NilError(t, resp.Body.Close())
	return resp.StatusCode, string(text)
}

func TestREST_HealthAndMetricsAreForEverybody(t *testing.T) {
	b := &backend{status: wire.Status{Health: wire.Degraded, Reasons: []string{"web is unhealthy"}}}
	url := serveTCP(t, b, noToken)
	status, body := get(t, url+"/health")
	assert.Check(t, is.Equal(status, http.StatusOK))
	assert.Check(t, is.Equal(body, `{"health":"degraded"}`+"\n"), "what names containers is for those who show the token")
	_, body = get(t, url+"/metrics")
	assert.Check(t, is.Equal(body, "dso_things_total 3\n"))

	b.status.Health = wire.Critical
	status, body = get(t, url+"/health")
	assert.Check(t, is.Equal(status, http.StatusServiceUnavailable))
	assert.Check(t, is.Equal(body, `{"health":"critical"}`+"\n"))
	b.fail = errors.New("the engine is away")
	status, _ = get(t, url+"/health")
	assert.Check(t, is.Equal(status, http.StatusServiceUnavailable))
}

func TestREST_EverythingElseNeedsTheToken(t *testing.T) {
	paths := []string{"/api/status", "/api/secrets", "/api/rotations", "/api/events"}
	b := &backend{status: wire.Status{Health: wire.Healthy}}
	without, with := serveTCP(t, b, noToken), serveTCP(t, b, withToken)
	unreadable := serveTCP(t, b, func() (secret.Value, bool, error) {
		return secret.Value{}, true, errors.New("/etc/dso/token: permission denied")
	})
	empty := serveTCP(t, b, func() (secret.Value, bool, error) { return secret.Value{}, true, nil })
	for _, path := range paths {
		status, body := get(t, without+path, "Authorization", "Bearer ")
		assert.Check(t, status == http.StatusForbidden && strings.Contains(body, "agent.rest.token"), "%s: %d %s", path, status, body)
		for _, header := range []string{"", restToken, "Basic " + restToken, "Bearer", "Bearer " + restToken + "x", "Bearer a token"} {
			status, body = get(t, with+path, "Authorization", header)
			assert.Check(t, status == http.StatusUnauthorized, "%s with %q: %d %s", path, header, status, body)
		}
		status, body = get(t, with+path, "Authorization", "Bearer "+restToken)
		assert.Check(t, status == http.StatusOK, "%s: %d %s", path, status, body)
		status, body = get(t, unreadable+path, "Authorization", "Bearer ")
		assert.Check(t, status == http.StatusInternalServerError && !strings.Contains(body, "/etc"), "%s: %d %s", path, status, body)
		status, _ = get(t, empty+path, "Authorization", "Bearer ")
		assert.Check(t, status == http.StatusUnauthorized, "an empty token opens nothing")
	}
	assert.Check(t, is.Equal(b.values, 0))
	_, body := get(t, with+"/api/secrets", "Authorization", "Bearer "+restToken)
	assert.Check(t, is.Contains(body, `"name":"app/db"`))
}

// What can be asked over TCP tells, and changes nothing.
func TestREST_ChangesNothing(t *testing.T) {
	b := &backend{}
	url := serveTCP(t, b, withToken)
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		if path == "/metrics" {
			continue
		}
		for _, path := range []string{path, strings.Replace(path, "/v1/", "/api/", 1)} {
			if method == http.MethodGet && strings.HasPrefix(path, "/api/") {
				continue
			}
			req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader("{}"))
			assert.NilError(t, err)
			req.Header.Set("Authorization", "Bearer "+restToken)
			resp, err := http.DefaultClient.Do(req)
			assert.NilError(t, err)
			assert.NilError(t, resp.Body.Close())
			assert.Check(t, resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed, "%s %s: %d", method, path, resp.StatusCode)
		}
	}
	assert.Check(t, is.Len(b.set, 0))
}

func TestREST_EventsAreTold(t *testing.T) {
	b := &backend{}
	b.happens("one")
	b.happens("two")
	url := serveTCP(t, b, withToken)
	status, body := get(t, url+"/api/events?after=1", "Authorization", "Bearer "+restToken)
	assert.Check(t, is.Equal(status, http.StatusOK))
	assert.Check(t, is.Equal(strings.Count(body, "\n"), 1))
	assert.Check(t, is.Contains(body, `"two"`))
	status, _ = get(t, url+"/api/events?after=x", "Authorization", "Bearer "+restToken)
	assert.Check(t, is.Equal(status, http.StatusBadRequest))

	// As a browser follows them; when it comes again it says what it has had.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/events", nil)
	assert.NilError(t, err)
	req.Header.Set("Authorization", "Bearer "+restToken)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", "1")
	resp, err := http.DefaultClient.Do(req)
	assert.NilError(t, err)
	defer func() { _ = resp.Body.Close() }()
	assert.Check(t, is.Equal(resp.Header.Get("Content-Type"), "text/event-stream"))
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		assert.Assert(t, lines.Scan(), "%v", lines.Err())
		return lines.Text()
	}
	assert.Check(t, is.Equal(next(), "id: 2"))
	assert.Check(t, is.Contains(next(), `"two"`))
	assert.Check(t, is.Equal(next(), ""))
	b.happens("three")
	assert.Check(t, is.Equal(next(), "id: 3"))
	assert.Check(t, is.Contains(next(), `"three"`))
}
