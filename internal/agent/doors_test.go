package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
)

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// openDoors listens until the test ends.
func (r *rig) openDoors() {
	a := &Agent{settings: r.settings, log: slog.New(slog.NewTextHandler(r.log, nil)), metrics: metrics.New()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); a.openDoors(ctx) }()
	r.t.Cleanup(func() { cancel(); <-ended })
}

func TestDoors_ReportsAreTakenWhereTheConfigurationSays(t *testing.T) {
	const key = "0123456789abcdef"
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	assert.NilError(t, os.WriteFile(path, []byte("one"), 0o600))
	provider := "  s: {type: env, config: {prefix: DSO_WEBHOOK_TEST_}}\n" // one that tells of nothing by itself
	t.Setenv("DSO_WEBHOOK_TEST_X", "one")
	text := func(hook string) string {
		return "agent: {rest: {listen: off}, watch: {polling_interval: 24h" + hook + "}}\nproviders:\n" + provider
	}
	r := newRig(t, text(""))
	before := r.inUse("s/x")
	r.run()
	r.openDoors()

	post := func(address, stamp string) int {
		const body = `{"provider": "s", "secret_name": "x"}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+webhook.Path, strings.NewReader(body))
		assert.NilError(t, err)
		req.Header.Set(webhook.HeaderTimestamp, stamp)
		req.Header.Set(webhook.HeaderSignature, webhook.Sign(secret.NewValue([]byte(key)), stamp, []byte(body)))
		resp, err := http.DefaultClient.Do(req)
		assert.NilError(t, err)
		assert.NilError(t, resp.Body.Close())
		return resp.StatusCode
	}
	listens := func(address string) func() bool {
		return func() bool { return r.log.count("listens address="+address+" rest=false webhook=true") == 1 }
	}
	first := freeAddress(t)
	r.write(text(fmt.Sprintf(", webhook: {listen: %q, secret: %s}", first, key)), 0o600)
	r.until("it listens", listens(first))
	for len(r.watch.Changed()) > 0 { // the reload's own
		<-r.watch.Changed()
	}
	t.Setenv("DSO_WEBHOOK_TEST_X", "two")
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	assert.Equal(t, post(first, stamp), http.StatusAccepted)
	<-r.watch.Changed()
	assert.Assert(t, r.inUse("s/x") != before)
	assert.Equal(t, post(first, stamp), http.StatusConflict)

	second := freeAddress(t)
	r.write(text(fmt.Sprintf(", webhook: {listen: %q, secret: %s}", second, key)), 0o600)
	r.until("it listens elsewhere", listens(second))
	assert.Equal(t, post(second, stamp), http.StatusConflict, "a report is remembered wherever it came in")
	_, err := net.Dial("tcp", first)
	assert.ErrorContains(t, err, "refused")

	r.write(text(""), 0o600)
	r.until("it is off", func() bool {
		c, err := net.Dial("tcp", second)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

func TestDoors_RestAndReportsShareAnAddress(t *testing.T) {
	address := freeAddress(t)
	text := func(token string) string {
		return fmt.Sprintf("agent: {rest: {listen: %q%s}, watch: {webhook: {listen: %q, secret: 0123456789abcdef}}}\n", address, token, address)
	}
	r := newRig(t, text(""))
	r.run()
	r.openDoors()
	r.until("it listens", func() bool { return r.log.count("listens address="+address+" rest=true webhook=true") == 1 })

	answer := func(method, path, token string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader("{}"))
		assert.NilError(t, err)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		assert.NilError(t, err)
		assert.NilError(t, resp.Body.Close())
		return resp.StatusCode
	}
	assert.Equal(t, answer("GET", "/metrics", ""), http.StatusOK)
	assert.Equal(t, answer("POST", webhook.Path, ""), http.StatusUnauthorized, "a report without a signature")
	assert.Equal(t, answer("GET", "/api/secrets", "a token of sixteen"), http.StatusForbidden)
	r.write(text(", token: \"a token of sixteen\""), 0o600)
	// A new token is asked for by who listens already.
	r.until("the token is taken", func() bool { return answer("GET", "/api/secrets", "another token") == http.StatusUnauthorized })
}
