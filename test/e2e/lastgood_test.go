package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestConfig_AHostThatBootsOnABadFileServesTheLastGoodOne(t *testing.T) {
	h := ownHost(t)
	conf, store := filepath.Join(h.Dir, "config", "dso.yaml"), filepath.Join(h.Dir, "store")
	const token = "hunter2-of-the-configuration"
	good := "version: 1\nproviders:\n  a: {type: file, config: {dir: " + store + "}}\n" +
		"  b: {type: http, config: {url: \"http://127.0.0.1:1/{path}\"}, auth: {method: bearer, params: {token: " + token + "}}}\n"
	put(t, filepath.Join(store, "db"), "value one")
	put(t, conf, good)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.run("web", sleeper("--restart", "always", "-e", "V=dso://a/db")...)

	// Somebody edits the file and goes home; the host reboots at night, and the value
	// has changed.
	put(t, conf, strings.Replace(good, "version: 1", "version: 1\npolicy: strict", 1))
	lab.Eventually(t, "the bad file is seen", func() bool { return strings.Contains(h.metrics(), "\ndso_configuration_rejected 1\n") })
	h.killAgent()
	assert.NilError(t, h.CutPower(t.Context()))
	put(t, filepath.Join(store, "db"), "value two")
	ready, err := h.LaunchAgent(t.Context(), nil, "-c", conf)
	assert.NilError(t, err)
	assert.NilError(t, h.StartDaemon(t.Context()))
	assert.NilError(t, ready(t.Context()))
	lab.Eventually(t, "web runs again", func() bool { return h.running("web") })
	assert.Check(t, is.Equal(h.environ("web")["V"], "value two"), "the provider of the last good one is asked")

	said := h.dso("status")
	assert.Check(t, is.Contains(said, "configuration: "+conf+" cannot be used, the last good one holds\n  "+conf+":2:1: unknown key `policy`"))
	assert.Check(t, is.Contains(said, "degraded"))
	assert.Check(t, is.Contains(h.metrics(), "\ndso_configuration_rejected 1\n"))
	log, err := os.ReadFile(h.AgentLog())
	assert.NilError(t, err)
	assert.Check(t, is.Contains(string(log), "configuration cannot be used, the last good one holds"))
	assert.NilError(t, filepath.WalkDir(h.HostPath("/var/lib/dso"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		assert.Check(t, !strings.Contains(string(text), token), path)
		return err
	}))

	put(t, conf, good)
	lab.Eventually(t, "the good file is taken", func() bool { return strings.Contains(h.metrics(), "\ndso_configuration_rejected 0\n") })
	assert.Check(t, !strings.Contains(h.dso("status"), "cannot be used"))

	// Without a seal there is none.
	put(t, conf, "agent: {seal: off}\n"+good)
	lab.Eventually(t, "it is taken", func() bool { return strings.Contains(h.dso("config", "show", "-c", conf), "seal: off") })
	assert.NilError(t, h.StopAgent())
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	put(t, conf, "policy: strict\n")
	assert.NilError(t, h.StopAgent())
	assert.ErrorContains(t, h.StartAgent(t.Context(), "-c", conf), "no agent has sealed one here, or agent.seal was off")
	assert.ErrorContains(t, h.StopAgent(), "exit status 1")
}
