package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/test/lab"
)

// webStore is a store of one secret a file, served over HTTP on the host.
type webStore struct {
	h   *host
	dir string
	cmd *exec.Cmd
}

const storeAddress = "127.0.0.1:18200"

func (s *webStore) up() { s.serve("db") }

// serve returns when the store answers for a path.
func (s *webStore) serve(path string) {
	s.h.t.Helper()
	s.cmd = s.h.Command(context.Background(), "busybox", "httpd", "-f", "-p", storeAddress, "-h", s.dir)
	assert.NilError(s.h.t, s.cmd.Start())
	lab.Eventually(s.h.t, "the store answers", func() bool {
		return s.h.Command(s.h.t.Context(), "busybox", "wget", "-q", "-O", "/dev/null", "http://"+storeAddress+"/"+path).Run() == nil
	})
}

func (s *webStore) down() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd = nil
}

func (h *host) statusOf(container string) wire.ContainerStatus {
	h.t.Helper()
	var st wire.Status
	assert.NilError(h.t, json.Unmarshal([]byte(h.dso("status", "--json")), &st))
	for _, c := range st.Containers {
		if c.Name == container {
			return c
		}
	}
	return wire.ContainerStatus{}
}

func TestSealed_AHostThatBootsWithoutItsStoreStartsEveryContainer(t *testing.T) {
	h := ownHost(t)
	dir := filepath.Join(h.Dir, "config")
	conf, store := filepath.Join(dir, "dso.yaml"), &webStore{h: h, dir: filepath.Join(h.Dir, "store")}
	put(t, filepath.Join(store.dir, "db"), "value one")
	put(t, filepath.Join(store.dir, "tls"), "key one")
	put(t, conf, "version: 1\nagent: {watch: {polling_interval: 1s}}\nproviders:\n  web: {type: http, config: {url: \"http://"+storeAddress+"/{path}\"}, retry: {attempts: 1}}\n")
	store.up()
	t.Cleanup(store.down)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	for _, name := range []string{"one", "two"} {
		h.run(name, sleeper("--restart", "always", "-e", "V=dso://web/db", "-e", "F=dsofile://web/tls")...)
	}

	assert.Check(t, is.Contains(h.dso("seal"), "2 values of 2 containers in /var/lib/dso/sealed, key 1-"))
	assert.Check(t, is.Contains(h.dso("seal", "new-key"), ", key 2-"))

	// The power is cut, and the host boots without the store.
	assert.NilError(t, h.KillAgent())
	assert.NilError(t, h.CutPower(t.Context()))
	store.down()
	ready, err := h.LaunchAgent(t.Context(), nil, "-c", conf)
	assert.NilError(t, err)
	assert.NilError(t, h.StartDaemon(t.Context()))
	assert.NilError(t, ready(t.Context()))
	for _, name := range []string{"one", "two"} {
		lab.Eventually(t, name+" runs again", func() bool { return h.running(name) })
		assert.Check(t, is.Equal(h.environ(name)["V"], "value one"))
		assert.Check(t, is.Equal(h.sh(name, `cat "$F"`), "key one"))
		stale := h.statusOf(name).Stale
		assert.Assert(t, stale != nil)
		assert.Check(t, is.Contains(stale.Cause, "connection refused"))
		age, err := time.ParseDuration(stale.Age)
		assert.Check(t, err == nil && age < 10*time.Minute, stale.Age)
	}
	assert.Check(t, is.Contains(h.dso("status"), "stale, values of "))
	assert.Check(t, is.Contains(h.dso("watch", "--no-follow"), "container starts with the values it had before"))
	assert.Check(t, is.Contains(h.metrics(), "\ndso_stale_containers 2\n"))

	// One that was given nothing before is refused, by name of its store.
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "new", "-e", "V=dso://web/db", busybox, "sleep", "3600")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.err, "cannot resolve dso://web/db for V"))
	h.docker("rm", "-f", "new")

	// The store is back with the same values: nobody is touched.
	started := h.inspect("one", "{{.State.StartedAt}}")
	store.up()
	lab.Eventually(t, "nothing is stale", func() bool { return strings.Contains(h.metrics(), "\ndso_stale_containers 0\n") })
	assert.Check(t, h.statusOf("one").Stale == nil)
	assert.Check(t, is.Equal(h.inspect("one", "{{.State.StartedAt}}"), started))

	// With another value they are changed over, once it is there to be read.
	put(t, filepath.Join(store.dir, "db"), "value two")
	lab.Eventually(t, "both are changed over", func() bool { return h.carries("one", "value two") && h.carries("two", "value two") })

	// The key is lost. What runs is sealed anew while its store is up.
	assert.NilError(t, h.KillAgent())
	assert.NilError(t, os.RemoveAll(h.HostPath("/var/lib/dso/sealed/keys")))
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	lab.Eventually(t, "all is sealed again", func() bool { return strings.Contains(h.dso("seal"), "2 values of 2 containers") })
	store.down()
	h.docker("restart", "-t", "1", "one")
	assert.Check(t, is.Equal(h.environ("one")["V"], "value two"))
}
