package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

// put replaces a file as configuration management does.
func put(t *testing.T, path, text string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	assert.NilError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	assert.NilError(t, os.Rename(path+".new", path))
}

// carries reports whether the container of that name runs with the value. For a
// moment of a rotation there is none of that name.
func (h *host) carries(container, value string) bool {
	return strings.Contains(h.processEnviron(container), "V="+value+"\x00")
}

func TestConfig_AProviderIsReadAndAChangeOfTheFileTouchesNobodyElse(t *testing.T) {
	h := ownHost(t)
	dir := filepath.Join(h.Dir, "config")
	conf, first, second := filepath.Join(dir, "dso.yaml"), filepath.Join(dir, "one"), filepath.Join(dir, "two")
	put(t, filepath.Join(first, "db"), "value one")
	put(t, filepath.Join(second, "db"), "value two")
	const head = "version: 1\nagent: {watch: {polling_interval: 24h}}\nproviders:\n"
	a, b := "  a: {type: file, config: {dir: "+first+"}}\n", "  b: {type: file, config: {dir: "+second+"}}\n"

	put(t, conf, head+"  a: {type: fil}\nzzz: 1\n")
	assert.ErrorContains(t, h.StartAgent(t.Context(), "-c", conf), "the agent ended")
	assert.ErrorContains(t, h.StopAgent(), "exit status 1") // it ended by itself
	log, err := os.ReadFile(h.AgentLog())
	assert.NilError(t, err)
	for _, want := range []string{conf + ":4:13: unknown provider type `fil`, did you mean `file`?", conf + ":5:1: unknown key `zzz`"} {
		assert.Check(t, is.Contains(string(log), want))
	}

	put(t, conf, head+a)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.dso("init")
	h.set("app/local", "local one")
	h.run("user-a", sleeper("-e", "V=dso://a/db")...)
	h.run("local", sleeper("-e", "V=dso://app/local")...)
	assert.Equal(t, h.environ("user-a")["V"], "value one")
	started := h.inspect("local", "{{.State.StartedAt}}")

	// A provider is added while the agent runs.
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "early", "-e", "V=dso://b/db", busybox, "sleep", "3600")
	assert.Assert(t, s.code != 0)
	put(t, conf, head+a+b)
	lab.Eventually(t, "the provider b is there", func() bool { return strings.Contains(h.dso("status"), "provider b: ok") })
	h.run("user-b", sleeper("-e", "V=dso://b/db")...)
	assert.Equal(t, h.environ("user-b")["V"], "value two")

	// A secret of the new provider changes; nothing is polled.
	put(t, filepath.Join(second, "db"), "value three")
	lab.Eventually(t, "b is changed over", func() bool { return h.carries("user-b", "value three") })

	// The provider means another directory: the container that uses it is concerned.
	put(t, filepath.Join(second, "db"), "value four")
	lab.Eventually(t, "b is changed over", func() bool { return h.carries("user-b", "value four") })
	put(t, conf, head+a+strings.Replace(b, second, first, 1))
	lab.Eventually(t, "b reads another store", func() bool { return h.carries("user-b", "value one") })

	// A bad file changes nothing, SIGHUP or not.
	put(t, conf, "providers: nothing\n")
	assert.NilError(t, syscall.Kill(h.AgentPID(), syscall.SIGHUP))
	lab.Eventually(t, "the bad file is reported", func() bool {
		text, err := os.ReadFile(h.AgentLog())
		return err == nil && strings.Contains(string(text), "configuration not taken, the last good one stays")
	})
	assert.Equal(t, h.inspect("local", "{{.State.StartedAt}}"), started, "the container that no change concerned")
	assert.Equal(t, h.environ("user-a")["V"], "value one")
	h.docker("restart", "-t", "0", "user-a")
	assert.Equal(t, h.environ("user-a")["V"], "value one", "the last good one answers")

	// Restarting the agent without a change rotates nothing: versions that DSO makes
	// itself stay.
	put(t, conf, head+a+b)
	lab.Eventually(t, "b reads its own store again", func() bool { return h.carries("user-b", "value four") })
	lab.Eventually(t, "the rotation has ended", func() bool { return !strings.Contains(h.dso("rotations", "--json"), `"pending": true`) })
	started = h.inspect("user-b", "{{.State.StartedAt}}")
	h.killAgent()
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	// A comparison looks at all containers: user-b was compared when user-a, whose
	// secret is another, has been changed over.
	put(t, filepath.Join(first, "db"), "value five")
	lab.Eventually(t, "user-a is changed over", func() bool { return h.carries("user-a", "value five") })
	assert.Equal(t, h.inspect("user-b", "{{.State.StartedAt}}"), started)
}
