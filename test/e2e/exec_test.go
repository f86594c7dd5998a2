package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestExec_SeesTheValuesThatTheContainerWasStartedWith(t *testing.T) {
	h := sharedHost(t)
	h.set("app/exec", "v$1\n")
	h.run("exec", sleeper("--user", "1000", "--label", "dso.reloader=false",
		"-e", "V=dso://app/exec", "-e", "F=dsofile://app/exec?mode=440")...)
	assert.Check(t, is.Equal(h.sh("exec", `echo "$V"`), "v$1\n\n"))
	assert.Check(t, is.Equal(h.sh("exec", `cat "$F"`), "v$1\n"))
	h.set("app/exec", "v2")
	assert.Check(t, is.Equal(h.sh("exec", `echo "$V"`), "v$1\n\n"), "an exec sees what the application sees")
	s := h.tryDocker("exec", "exec", "sh", "-c", "exit 42")
	assert.Check(t, is.Equal(s.code, 42))
}

func TestExec_ResolvesReferencesOfItsOwn(t *testing.T) {
	h := sharedHost(t)
	h.set("app/started", "one")
	h.set("app/other", "two")
	h.run("own", sleeper("--label", "dso.reloader=false", "-e", "V=dso://app/started", "-e", "F=dsofile://app/started?mode=444")...)
	h.set("app/started", "changed")
	for ref, want := range map[string]string{
		"dso://app/started":              "one", // as the container has it
		"dso://app/other":                "two",
		"dsofile://app/started?mode=444": "/run/secrets/dso/app/started",
	} {
		s := h.tryDocker("exec", "-e", "X="+ref, "own", "sh", "-c", `echo "$X"`)
		assert.Check(t, is.Equal(s.out, want+"\n"), "%s: %s", ref, s.err)
	}
}

func TestExec_IsRefusedWhenAReferenceCannotBeResolved(t *testing.T) {
	h := sharedHost(t)
	h.set("app/started", "one")
	h.set("app/other", "two")
	h.run("refused", sleeper("-e", "V=dso://app/started")...)
	h.run("plain", sleeper()...)
	for _, tc := range []struct{ container, ref, why string }{
		{"refused", "dso://app/absent", "cannot resolve dso://app/absent for X: provider local has no secret app/absent"},
		{"refused", "dso://app//x", "empty segment"},
		{"refused", "dsofile://app/other", "the container was not started with this file"},
		{"plain", "dso://app/started", "the container was not started with references"},
	} {
		s := h.tryDocker("exec", "-e", "X="+tc.ref, tc.container, "sh", "-c", `echo "$X"`)
		assert.Check(t, s.code != 0, tc.ref)
		assert.Check(t, is.Contains(s.all(), tc.why))
	}
	for _, f := range h.privateFiles() {
		assert.Check(t, f[:min(len(f), 8)] != "bundles/", f)
	}
}

// checks returns the results of a container's health checks that began after
// the time.
func (h *host) checks(container string, after time.Time) (codes []int) {
	h.t.Helper()
	var health struct {
		Log []struct {
			Start    time.Time
			ExitCode int
		}
	}
	assert.NilError(h.t, json.Unmarshal([]byte(h.inspect(container, "{{json .State.Health}}")), &health))
	for _, l := range health.Log {
		if l.Start.After(after) {
			codes = append(codes, l.ExitCode)
		}
	}
	return codes
}

func TestExec_HealthChecksSeeTheValuesAlsoWithTheAgentDead(t *testing.T) {
	h := sharedHost(t)
	h.set("app/health", "fit $1")
	every := []string{"--health-interval=500ms", "--health-retries=1", "-e", "V=dso://app/health", "-e", "F=dsofile://app/health"}
	h.run("shell", sleeper(append(every, `--health-cmd=[ "$V" = 'fit $1' ] && [ "$(cat $F)" = "$V" ]`)...)...)
	// The application's own check is in its image as CMD, and fails with an
	// environment that is not resolved.
	h.run("cmd", append(every[:2:2], "-e", "APP_SECRET=dso://app/health", "-e", "V_FILE=dsofile://app/health", "answerer:test")...)
	h.health("shell")
	h.health("cmd")

	h.killAgent()
	killed := time.Now()
	for _, container := range []string{"shell", "cmd"} {
		var codes []int
		lab.Eventually(t, container+" was checked three times more", func() bool {
			codes = h.checks(container, killed)
			return len(codes) >= 3
		})
		assert.Check(t, is.DeepEqual(codes, make([]int, len(codes))), container)
		assert.Check(t, is.Equal(h.inspect(container, "{{.State.Health.Status}}"), "healthy"))
	}
	assert.Check(t, is.Equal(h.sh("shell", `echo "$V"`), "fit $1\n"))
	assert.Check(t, is.Equal(h.sh("shell", `cat "$F"`), "fit $1"))
	s := h.tryDocker("exec", "-e", "X=dso://app/health", "shell", "sh", "-c", `echo "$X"`)
	assert.Check(t, is.Equal(s.out, "fit $1\n"), s.err)
}

func TestExec_WithTheAgentDeadANewReferenceIsRefused(t *testing.T) {
	h := sharedHost(t)
	h.set("app/health", "x")
	h.deadline("300ms")
	h.run("dead", sleeper("-e", "V=dso://app/health")...)
	h.killAgent()
	s := h.tryDocker("exec", "-e", "X=dso://app/new", "dead", "sh", "-c", `echo "$X"`)
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.all(), "no agent answers on /run/dso/runtime.sock (waited 300ms)"))
	assert.Check(t, is.Contains(s.all(), "dso://app/new"))
}
