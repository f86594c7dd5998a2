package host

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// mostExposed is what systemd-analyze security may say of the unit, at most.
const mostExposed = 2.5

func TestUnit_IsSandboxed(t *testing.T) {
	d := newInstalled(t, service{})
	out := d.run("systemd-analyze", "security", "--no-pager", "dso-agent.service")
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
	assert.Assert(t, m != nil, out)
	level, err := strconv.ParseFloat(m[1], 64)
	assert.NilError(t, err)
	t.Logf("exposure %.1f", level)
	assert.Assert(t, level <= mostExposed, out)
	assert.Assert(t, !strings.Contains(d.sh("journalctl -b --no-pager | grep -i 'dso.*\\(unknown\\|ignoring\\)' || true"), "Unknown"))
}

// What the sandbox must not break: files of another user, ports, draining, recovery.
func TestAgent_CanDoItsWork(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		d.sleeper("files", "--runtime", "dso", "--user", "1000:1000", "-e", "F=dsofile://app/marker")
		assert.Equal(t, d.run("docker", "exec", "files", "sh", "-c", `cat "$F"`), "v1")
		d.run("docker", "run", "-d", "--name", "web", "--runtime", "dso", "--restart", "always", "--label", "dso.update.strategy=rolling",
			"-e", "APP_SECRET=dso://app/marker", "answerer:test")
		d.set("app/marker", "v2")
		d.eventually("it has the new value", func() bool { return strings.Contains(d.environ("web"), "APP_SECRET=v2\n") })
		assert.Assert(t, !strings.Contains(d.run("docker", "dso", "system", "logs", "--priority", "error"), "level"), "nothing went wrong")
	})
}

func TestAgent_ThatHangsIsEnded(t *testing.T) {
	t.Parallel() // most of it is waiting
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		before := m.hang(d)
		d.agentReplaced(before)
	})
}

// A start that begins while the agent is replaced is not refused: it waits.
func TestAgent_StartsWaitWhileTheAgentRestarts(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		for i := range 5 {
			m.restart(d)
			d.sh(fmt.Sprintf("docker run --rm --runtime dso --name c%d -e MARKER=dso://app/marker busybox:test true", i))
		}
		d.agentActive()
		d.sh("kill -KILL " + m.pid(d) + "; docker run --rm --runtime dso -e MARKER=dso://app/marker busybox:test sh -c '[ \"$MARKER\" = v1 ]'")
	})
}

func TestAgent_TakesCredentialsOfRoot(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		assert.NilError(t, d.Write("/etc/dso/credentials/token", "t0ken\n", 0o600))
		assert.NilError(t, d.Write("/etc/dso/dso.yaml", `version: 1
providers:
  parameters:
    type: http
    auth: {method: bearer, params: {token_credential: dso_token}}
    config: {url: "http://127.0.0.1:9/{path}"}
`, 0o640))
		before := m.pid(d)
		m.restart(d)
		d.agentReplaced(before)
		assert.Assert(t, strings.Contains(d.status(), "provider parameters"))
		d.run("docker", "dso", "config", "show")
	})
}

// The memory of the agent cannot be dumped, swapped or looked at.
func TestAgent_ItsMemoryIsItsOwn(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		pid := m.pid(d)
		status, err := os.ReadFile(d.Path("/proc/" + pid + "/status"))
		assert.NilError(t, err)
		locked := regexp.MustCompile(`VmLck:\s+(\d+) kB`).FindStringSubmatch(string(status))
		assert.Assert(t, locked != nil && locked[1] != "0", string(status))
		limits, err := os.ReadFile(d.Path("/proc/" + pid + "/limits"))
		assert.NilError(t, err)
		assert.Assert(t, regexp.MustCompile(`Max core file size\s+0\s+0`).Match(limits), string(limits))
		d.run("kill", "-SEGV", pid)
		d.agentReplaced(pid)
		assert.Equal(t, d.sh("find / -xdev -name 'core*' -newer /proc/1 -type f -size +100k 2>/dev/null || true"), "")
	})
}

func TestSystem_Commands(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), m.keeper()))
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status", "--json"), `"answers": true`))
		pid := m.pid(d)
		d.run("docker", "dso", "system", "restart")
		d.agentReplaced(pid)
		assert.Assert(t, len(strings.Split(d.run("docker", "dso", "system", "logs", "-n", "3"), "\n")) == 3)
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "--since", "1h"), "agent ready"))
		assert.Assert(t, !strings.Contains(d.run("docker", "dso", "system", "logs", "--priority", "warn"), "agent ready"))
		assert.Equal(t, d.run("docker", "dso", "system", "logs", "--since", "-0s", "--priority", "error"), "")
		out, _ := d.Run(t.Context(), "timeout", "3", "docker", "dso", "system", "logs", "-f", "-n", "1", "--json")
		assert.Assert(t, strings.Contains(out, `"msg"`), out)
		d.run("docker", "dso", "system", "disable")
		_, ready := m.ready(d)
		assert.Assert(t, !ready)
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), "does not start at boot"))
		d.run("docker", "dso", "system", "enable")
		d.agentActive()
		d.sh("mkdir -p /var/log/dso; echo '{\"time\":\"2026-05-04T03:02:01Z\",\"level\":\"warn\",\"msg\":\"from a file\"}' > /var/log/dso/agent.log")
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "--file", "/var/log/dso/agent.log", "--priority", "warn"), "from a file"))
	})
}
