package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func env(pairs ...string) func(string) string {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return values[name] }
}

func ask(t *testing.T, a *app, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestAnswerer_AnswersItsSecret(t *testing.T) {
	a, err := newApp(env("APP_SECRET", "v3"))
	assert.NilError(t, err)
	code, body := ask(t, a, "/")
	assert.Equal(t, code, http.StatusOK)
	assert.Equal(t, body, "v3\n")
}

func TestAnswerer_ReadsTheFileOnceOrAtEachRequest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	assert.NilError(t, os.WriteFile(file, []byte("v1\n"), 0o600))
	once, err := newApp(env("APP_SECRET_FILE", file))
	assert.NilError(t, err)
	each, err := newApp(env("APP_SECRET_FILE", file, "APP_RELOAD", "1"))
	assert.NilError(t, err)

	assert.NilError(t, os.WriteFile(file, []byte("v2\n"), 0o600))
	_, body := ask(t, once, "/")
	assert.Equal(t, body, "v1\n")
	_, body = ask(t, each, "/")
	assert.Equal(t, body, "v2\n")
	assert.NilError(t, once.load())
	_, body = ask(t, once, "/")
	assert.Equal(t, body, "v2\n")
}

func TestAnswerer_RefusesToStartWithout(t *testing.T) {
	for name, tc := range map[string]struct {
		env  func(string) string
		want string
	}{
		"nothing":           {env(), "empty"},
		"a reference":       {env("APP_SECRET", "dso://app/x"), "unresolved"},
		"a file's":          {env("APP_SECRET_FILE", "/does/not/exist"), "read secret"},
		"what it exits for": {env("APP_SECRET", "v2-bad", "APP_EXIT_IF", "bad"), "bad one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newApp(tc.env)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAnswerer_IsUnhealthyWithABadSecret(t *testing.T) {
	good, err := newApp(env("APP_SECRET", "v1", "APP_UNHEALTHY_IF", "bad"))
	assert.NilError(t, err)
	code, _ := ask(t, good, "/healthz")
	assert.Equal(t, code, http.StatusOK)
	bad, err := newApp(env("APP_SECRET", "v2-bad", "APP_UNHEALTHY_IF", "bad"))
	assert.NilError(t, err)
	code, _ = ask(t, bad, "/healthz")
	assert.Equal(t, code, http.StatusInternalServerError)
}

func TestAnswerer_HealthcheckNeedsAResolvedEnvironment(t *testing.T) {
	assert.ErrorContains(t, healthcheck(t.Context(), env("APP_SECRET", "dso://app/x")), "unresolved")
}

// freePort is not taken by others in practice: the kernel hands them out in turn.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	assert.NilError(t, err)
	return port
}

func TestAnswerer_FinishesRequestsInFlightWhenStopped(t *testing.T) {
	environment := env("APP_SECRET", "v1", "PORT", freePort(t))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- run(ctx, nil, environment, nil) }()
	url := "http://127.0.0.1:" + environment("PORT")
	deadline := time.Now().Add(10 * time.Second)
	for run(t.Context(), []string{"healthcheck"}, environment, nil) != nil {
		assert.Assert(t, time.Now().Before(deadline), "it never became healthy")
	}

	answer := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"get", url + "/?take=300ms"}, environment, &out); err != nil {
			answer <- err.Error()
		}
		answer <- out.String()
	}()
	// The stop comes while the request is being served, as a rule; the answer
	// has to be the same when it does not.
	time.AfterFunc(100*time.Millisecond, stop)
	assert.Equal(t, <-answer, "v1\n")
	assert.NilError(t, <-served)
	assert.Assert(t, get(t.Context(), url, &bytes.Buffer{}) != nil)
}
