package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
	"github.com/docker-secret-operator/dso/test/lab"
)

// documentedReport is the script of the documentation, word for word.
func documentedReport(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository(t), "docs/reference/webhook.md"))
	assert.NilError(t, err)
	var script []string
	for line := range strings.Lines(string(page)) {
		if code, ok := strings.CutPrefix(line, "    "); ok && (len(script) > 0 || strings.HasPrefix(code, "body=")) {
			script = append(script, code)
		}
	}
	return strings.Join(script, "")
}

// report sends a report and returns the status that it was answered with.
func (h *host) report(timestamp, signature, body string) string {
	h.t.Helper()
	return h.try(h.Command(h.t.Context(), "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "http://127.0.0.1:8471"+webhook.Path,
		"-H", webhook.HeaderTimestamp+": "+timestamp, "-H", webhook.HeaderSignature+": "+signature, "-d", body), "").out
}

func TestWebhook_AReportIsTakenOnceAndOnlyWhenItIsSigned(t *testing.T) {
	h := ownHost(t)
	dir := filepath.Join(h.Dir, "config")
	conf, store := filepath.Join(dir, "dso.yaml"), &webStore{h: h, dir: filepath.Join(h.Dir, "store")}
	put(t, filepath.Join(store.dir, "kv/app/db"), "value one")
	const key = "0123456789abcdef0123456789abcdef"
	put(t, filepath.Join(dir, "webhook-secret"), key+"\n")
	put(t, conf, "version: 1\nagent: {watch: {polling_interval: 24h, webhook: {secret_file: "+dir+"/webhook-secret}}}\n"+
		"providers:\n  vault: {type: http, config: {url: \"http://"+storeAddress+"/{path}\"}}\n")
	store.serve("kv/app/db")
	t.Cleanup(store.down)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.run("web", sleeper("-e", "V=dso://vault/kv/app/db")...)
	assert.Equal(t, h.environ("web")["V"], "value one")

	// Nobody looks by himself. The values differ in length: to this server's ETag, two of
	// one second and one length are the same.
	put(t, filepath.Join(store.dir, "kv/app/db"), "the value two")
	body := `{"provider": "vault", "secret_name": "kv/app/db"}`
	now := fmt.Sprint(time.Now().Unix())
	signature := webhook.Sign(secret.NewValue([]byte(key)), now, []byte(body))
	assert.Check(t, is.Equal(h.report(now, webhook.Sign(secret.NewValue([]byte("another secret of somebody")), now, []byte(body)), body), "401"))
	assert.Check(t, is.Equal(h.report(now, signature, strings.Replace(body, "db", "dc", 1)), "401"))
	old := fmt.Sprint(time.Now().Add(-time.Hour).Unix())
	assert.Check(t, is.Equal(h.report(old, webhook.Sign(secret.NewValue([]byte(key)), old, []byte(body)), body), "401"))
	assert.Check(t, h.carries("web", "value one"))

	assert.Check(t, is.Equal(h.report(now, signature, body), "202"))
	lab.Eventually(t, "web is changed over", func() bool { return h.carries("web", "the value two") })
	assert.Check(t, is.Equal(h.report(now, signature, body), "409"))

	// As the documentation says it is done.
	put(t, filepath.Join(store.dir, "kv/app/db"), "and the value three")
	said := h.try(h.CommandIn(t.Context(), dir, "bash", "-ec", documentedReport(t)), "")
	assert.Check(t, is.Contains(said.out, `"in_use":true`), said.all())
	lab.Eventually(t, "web is changed over again", func() bool { return h.carries("web", "and the value three") })
	assert.Check(t, is.Contains(h.metrics(), `dso_webhook_requests_total{status="202"} 2`))
}
