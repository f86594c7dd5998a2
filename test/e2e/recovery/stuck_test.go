package recovery

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// An engine that dies while it starts a container leaves that container in a state
// in which it refuses every later start.
func TestEngine_KilledWhileItStartsAContainer(t *testing.T) {
	s := begin(t, "stuck")
	s.docker("stop", "-t", "1", s.web)
	assert.NilError(t, shared.KillAgent())
	started := make(chan struct{})
	go func() {
		defer close(started)
		_, _ = shared.Docker(context.Background(), "start", s.web) // waits for an agent
	}()
	s.awaitRuntime()
	assert.NilError(t, shared.Kill())
	<-started
	assert.NilError(t, shared.StartDaemon(t.Context()))
	assert.Assert(t, strings.Contains(s.docker("inspect", "-f", "{{.State.Error}}", s.web), "already exists"), "the engine has mended this: the case can go")
	s.startAgent()
	s.settles("v1")
}

// awaitRuntime waits until a dso-runtime of the shared engine asks for an agent.
func (s *scene) awaitRuntime() {
	s.t.Helper()
	lab.Eventually(s.t, "a runtime runs", func() bool {
		found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range found {
			line, _ := os.ReadFile(path)
			if strings.Contains(string(line), "dso-runtime") && strings.Contains(string(line), shared.Engine.Dir()) && strings.Contains(string(line), "\x00create\x00") {
				return true
			}
		}
		return false
	})
}
