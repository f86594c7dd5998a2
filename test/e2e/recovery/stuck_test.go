package recovery

import (
	"context"
	"fmt"
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
	t.Run("while the task is made", func(t *testing.T) {
		s := begin(t, "stuck")
		s.docker("stop", "-t", "1", s.web)
		assert.NilError(t, shared.KillAgent())
		started := s.starts(s.web)
		assert.NilError(t, shared.Kill())
		<-started
		s.isRefused(s.web, "already exists")
		s.startAgent()
		s.settles("v1")
	})
	t.Run("when the task is made, and not started", func(t *testing.T) {
		s := begin(t, "stuck")
		s.docker("stop", "-t", "1", s.web)
		release := s.haltedRuntime()
		started := s.starts(s.web)
		assert.NilError(t, shared.Kill())
		<-started
		release()
		assert.NilError(t, shared.KillAgent())
		s.isRefused(s.web, "id already in use")
		s.startAgent()
		s.settles("v1")
	})
}

// haltedRuntime has the runtime make containers and not start them, until it is released:
// then a start fails.
func (s *scene) haltedRuntime() (release func()) {
	s.t.Helper()
	script, halt := filepath.Join(s.dir, "dso-runtime"), filepath.Join(s.dir, "halt")
	runtime := s.docker("info", "-f", "{{.Runtimes.dso.Path}}")
	text := fmt.Sprintf("#!/bin/sh\nfor word; do [ \"$word\" != start ] || while [ -e %s ]; do sleep 0.01; failed=1; done; done\n[ -z \"$failed\" ] || exit 1\nexec %s \"$@\"\n", halt, runtime)
	assert.NilError(s.t, os.WriteFile(script, []byte(text), 0o755))
	assert.NilError(s.t, os.WriteFile(halt, nil, 0o600))
	assert.NilError(s.t, shared.ReloadWith(s.t.Context(), map[string]any{"runtimes": map[string]any{"dso": map[string]string{"path": script}}}))
	s.t.Cleanup(func() { assert.Check(s.t, shared.ReloadWith(context.Background(), nil)) })
	return func() { assert.NilError(s.t, os.Remove(halt)) }
}

// starts has a container started by somebody, and returns when that waits for an agent.
func (s *scene) starts(name string) (ended <-chan struct{}) {
	s.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = shared.Docker(context.Background(), "start", name)
	}()
	lab.Eventually(s.t, "a runtime runs", s.runtimeRuns)
	return done
}

// isRefused starts an engine, and says why it does not start a container.
func (s *scene) isRefused(name, why string) {
	s.t.Helper()
	assert.NilError(s.t, shared.StartDaemon(s.t.Context()))
	got := s.docker("inspect", "-f", "{{.State.Status}}: {{.State.Error}}", name)
	assert.Assert(s.t, strings.Contains(got, why), "it is %s: if the engine has mended this, the case can go", got)
}

// runtimeRuns reports whether a dso-runtime of the shared engine waits: for an agent, or
// because it is halted.
func (s *scene) runtimeRuns() bool {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		line, _ := os.ReadFile(path)
		text := string(line)
		if strings.Contains(text, "dso-runtime") && strings.Contains(text, shared.Engine.Dir()) &&
			(strings.Contains(text, "\x00create\x00") && !shared.AgentRuns() || strings.Contains(text, "\x00start\x00")) {
			return true
		}
	}
	return false
}
