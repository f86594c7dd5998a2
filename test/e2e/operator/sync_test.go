package operator

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// store runs a store on the host that holds one value.
func (h *host) store(value string) {
	h.t.Helper()
	_, _ = h.Docker(h.t.Context(), "rm", "-f", "store")
	h.docker("run", "-d", "--name", "store", "--network", "host", "-e", "PORT=8099", "-e", "APP_SECRET="+value, lab.Answerer)
	lab.Eventually(h.t, "the store answers", func() bool {
		out, err := h.Docker(h.t.Context(), "exec", "store", "/answerer", "get", "http://127.0.0.1:8099/")
		return err == nil && out == value
	})
}

func (h *host) answers(container string) string {
	h.t.Helper()
	return h.docker("exec", container, "/answerer", "get", "http://127.0.0.1:8080/")
}

// The store is asked once in an hour: whoever cannot wait for it types sync, or apply.
func TestSync_AsksTheStoreNow(t *testing.T) {
	h := newHost(t)
	h.store("v1")
	h.configure(`
providers:
  slow: {type: http, config: {url: "http://127.0.0.1:8099/{path}"}}
agent: {watch: {polling_interval: 1h}}
`)
	h.docker("run", "-d", "--name", "web", "--runtime", "dso", "-e", "APP_SECRET=dso://slow/value", "--label", "dso.monitor=100ms", lab.Answerer)
	assert.Equal(t, h.answers("web"), "v1")
	assert.Equal(t, h.dso("sync"), "web: has the current version\n")

	h.store("v2")
	assert.Assert(t, strings.HasPrefix(h.dso("apply", "--dry-run"), "every container has the versions that the agent knows of;"))
	assert.Assert(t, strings.Contains(h.dso("sync", "--secret", "slow/value"), "web: rotated"))
	assert.Equal(t, h.answers("web"), "v2")

	h.store("v3")
	s := h.try("/", "", "apply")
	assert.Equal(t, s.code, 0, s.out+s.err)
	assert.Assert(t, strings.HasPrefix(s.out, "every container has the versions that the agent knows of;"), s.out)
	assert.Equal(t, h.answers("web"), "v2")
	assert.Assert(t, strings.Contains(h.dso("apply", "--yes"), "web: rotated"))
	assert.Equal(t, h.answers("web"), "v3")
}

func TestAgent_RunsUnderTheNameOfThePlugin(t *testing.T) {
	h := newHost(t)
	assert.Assert(t, strings.Contains(h.dso("agent", "-version"), "4."))
	s := h.try("/", "", "agent")
	assert.Equal(t, s.code, 1)
	assert.Assert(t, strings.Contains(s.err+s.out, "another agent"), s.err+s.out)
	h.dso("logs", "--tail", "5", "--level", "info", "--file", h.AgentLog())
}
