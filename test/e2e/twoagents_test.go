package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestTwoAgents_TheSecondIsRefusedWhateverTheyShare(t *testing.T) {
	h := sharedHost(t)
	// Another path to the same engine.
	link := h.HostPath("/run/other.sock")
	assert.NilError(t, os.Symlink("/var/run/docker.sock", link))
	defer func() { assert.NilError(t, os.Remove(link)) }()
	for what, args := range map[string][]string{
		"state directory /var/lib/dso": {"--run-dir", "/run/dso-2"},
		"run directory /run/dso":       {"--state-dir", "/var/lib/dso-2"},
		"engine ":                      {"--run-dir", "/run/dso-2", "--state-dir", "/var/lib/dso-2", "--host", "unix:///run/other.sock"},
	} {
		s := h.try(h.Command(t.Context(), "dso-agent", args...), "")
		assert.Check(t, is.Equal(s.code, 1), what)
		assert.Check(t, is.Contains(s.all(), fmt.Sprintf("another agent is running: pid %d since 20", h.AgentPID())), what)
		assert.Check(t, is.Contains(s.all(), "has the "+what))
		assert.Check(t, is.Contains(s.all(), `"hint":"systemctl status dso-agent`))
	}
	locks := h.dso("locks") // the first one goes on serving
	for _, what := range []string{"the agent: state directory /var/lib/dso", "the agent: run directory /run/dso", "the agent: engine "} {
		assert.Check(t, is.Contains(locks, what))
	}
}

// standby starts an agent that has to wait, and returns when it says so.
func (h *host) standby(args ...string) (cmd *exec.Cmd, log func() string) {
	h.t.Helper()
	cmd, log = h.launchStandby(args...)
	lab.Eventually(h.t, "the standby waits", func() bool { return strings.Contains(log(), "agent stands by") })
	return cmd, log
}

func (h *host) launchStandby(args ...string) (cmd *exec.Cmd, log func() string) {
	h.t.Helper()
	f, err := os.Create(filepath.Join(h.t.TempDir(), "standby.log"))
	assert.NilError(h.t, err)
	defer func() { assert.NilError(h.t, f.Close()) }()
	cmd = h.Command(h.t.Context(), "dso-agent", append([]string{"--standby"}, args...)...)
	cmd.Stdout, cmd.Stderr = f, f
	assert.NilError(h.t, cmd.Start())
	log = func() string {
		text, err := os.ReadFile(f.Name())
		assert.NilError(h.t, err)
		return string(text)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // the second time it has ended already
		if h.t.Failed() {
			h.t.Logf("the standby's log:\n%s", log())
		}
	})
	return cmd, log
}

// end ends a standby as systemd would.
func (h *host) end(cmd *exec.Cmd) {
	h.t.Helper()
	assert.NilError(h.t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NilError(h.t, cmd.Wait())
}

func TestTwoAgents_AStandbyTakesOverAKilledAgent(t *testing.T) {
	h := sharedHost(t)
	h.set("app/two", "one")
	h.run("two", sleeper("-e", "V=dso://app/two")...)
	first := h.AgentPID()
	cmd, log := h.standby()
	pid := func() string { return h.dso("locks") }
	assert.Check(t, is.Contains(pid(), fmt.Sprint(first)), "the first one's sockets are its own")

	killed := time.Now()
	h.killAgent()
	lab.Eventually(t, "the standby has taken over", func() bool { return strings.Contains(log(), `"msg":"agent ready"`) })
	took := time.Since(killed)
	t.Logf("it was ready after %s", took)
	assert.Check(t, took < time.Second, "%s", took)
	assert.Check(t, is.Equal(strings.Count(log(), "agent stands by"), 1), "it says so once")
	assert.Check(t, is.Contains(pid(), fmt.Sprint(cmd.Process.Pid)))

	s := h.tryDSO("/", "two", "secret", "set", "app/two")
	assert.Check(t, is.Equal(s.code, 0), s.all())
	assert.Check(t, is.Contains(s.all(), "two: rotated"))
	assert.Check(t, is.Equal(h.environ("two")["V"], "two"))
	h.end(cmd)
}

func TestTwoAgents_AStandbyOfAnEngineServesNobodyUntilItHasIt(t *testing.T) {
	h := sharedHost(t)
	args := []string{"--run-dir", "/run/dso-3", "--state-dir", "/var/lib/dso-3"}
	cmd, log := h.standby(args...)
	assert.Check(t, is.Contains(log(), `"what":"engine `))
	assert.Check(t, is.Contains(log(), fmt.Sprintf(`"pid":%d`, h.AgentPID())))
	for _, dir := range []string{"/run/dso-3", "/var/lib/dso-3"} {
		entries, err := os.ReadDir(h.HostPath(dir))
		assert.NilError(t, err)
		assert.Check(t, is.Len(entries, 1), "only its lock: %v", entries)
	}
	h.end(cmd)
}

// Nobody can say whose a silent engine is. It turns out when it answers.
func TestTwoAgents_AStandbyWhoseEngineWasSilentStandsByAgain(t *testing.T) {
	h := sharedHost(t)
	assert.NilError(t, h.Stop())
	cmd, log := h.launchStandby("--run-dir", "/run/dso-4", "--state-dir", "/var/lib/dso-4")
	lab.Eventually(t, "it serves the starts that the engine may wait for", func() bool {
		_, err := os.Stat(h.HostPath("/run/dso-4/runtime.sock"))
		return err == nil
	})
	assert.NilError(t, h.StartDaemon(t.Context()))
	lab.Eventually(t, "the standby waits", func() bool { return strings.Contains(log(), "agent stands by") })
	assert.Check(t, is.Contains(log(), `"what":"engine `))
	sockets, err := filepath.Glob(h.HostPath("/run/dso-4/*.sock"))
	assert.NilError(t, err)
	assert.Check(t, is.Len(sockets, 0), log())
	h.end(cmd)
	lab.Eventually(t, "the agent works on", func() bool { return h.tryDSO("/", "", "status").code == 0 })
}
