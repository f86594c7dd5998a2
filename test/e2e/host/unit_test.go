package host

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// mostExposed is what systemd-analyze security may say of the unit, at most.
const mostExposed = 2.5

func TestUnit_IsSandboxed(t *testing.T) {
	d := newInstalled(t)
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
func TestUnit_CanDoItsWork(t *testing.T) {
	d := newInstalled(t)
	d.sleeper("files", "--runtime", "dso", "--user", "1000:1000", "-e", "F=dsofile://app/marker")
	assert.Equal(t, d.run("docker", "exec", "files", "sh", "-c", `cat "$F"`), "v1")
	d.run("docker", "run", "-d", "--name", "web", "--runtime", "dso", "--restart", "always", "--label", "dso.update.strategy=rolling",
		"-e", "APP_SECRET=dso://app/marker", "answerer:test")
	d.set("app/marker", "v2")
	d.eventually("it has the new value", func() bool { return strings.Contains(d.environ("web"), "APP_SECRET=v2\n") })
	assert.Assert(t, !strings.Contains(d.run("docker", "dso", "system", "logs", "--priority", "error"), "level"), "nothing went wrong")
}

func TestUnit_TheWatchdogEndsAnAgentThatHangs(t *testing.T) {
	d := newInstalled(t)
	assert.NilError(t, d.Write("/etc/systemd/system/dso-agent.service.d/short.conf", "[Service]\nWatchdogSec=2\n", 0o644))
	d.sh("systemctl daemon-reload && systemctl restart dso-agent")
	d.agentActive()
	before := d.show("MainPID")
	d.run("kill", "-STOP", before)
	d.eventually("another agent is there", func() bool { return d.show("MainPID") != before && d.show("ActiveState") == "active" })
	assert.Assert(t, strings.Contains(d.sh("journalctl -u dso-agent --no-pager"), "Watchdog timeout"))
}

// Connections wait in the sockets while the agent is replaced: a start that begins then
// is not refused.
func TestUnit_StartsWaitWhileTheAgentRestarts(t *testing.T) {
	d := newInstalled(t)
	for i := range 5 {
		d.sh(fmt.Sprintf("systemctl restart --no-block dso-agent; docker run --rm --runtime dso --name c%d -e MARKER=dso://app/marker busybox:test true", i))
	}
	d.sh("systemctl kill -s KILL dso-agent; docker run --rm --runtime dso -e MARKER=dso://app/marker busybox:test sh -c '[ \"$MARKER\" = v1 ]'")
}

func TestUnit_CredentialsComeThroughSystemd(t *testing.T) {
	d := newInstalled(t)
	assert.NilError(t, d.Write("/etc/dso/credentials/token", "t0ken\n", 0o600))
	assert.NilError(t, d.Write("/etc/dso/dso.yaml", `version: 1
providers:
  parameters:
    type: http
    auth: {method: bearer, params: {token_credential: dso_token}}
    config: {url: "http://127.0.0.1:9/{path}"}
`, 0o640))
	d.run("systemctl", "restart", "dso-agent")
	d.agentActive()
	assert.Assert(t, strings.Contains(d.status(), "provider parameters"))
	d.run("docker", "dso", "config", "show")
}

// The memory of the agent cannot be dumped, swapped or looked at.
func TestUnit_MemoryIsLocked(t *testing.T) {
	d := newInstalled(t)
	pid := d.show("MainPID")
	status, err := os.ReadFile(d.Path("/proc/" + pid + "/status"))
	assert.NilError(t, err)
	m := regexp.MustCompile(`VmLck:\s+(\d+) kB`).FindStringSubmatch(string(status))
	assert.Assert(t, m != nil && m[1] != "0", string(status))
	limits, err := os.ReadFile(d.Path("/proc/" + pid + "/limits"))
	assert.NilError(t, err)
	assert.Assert(t, regexp.MustCompile(`Max core file size\s+0\s+0`).Match(limits), string(limits))
	d.sh("kill -SEGV " + pid + "; sleep 0.1")
	d.eventually("another agent is there", func() bool { return d.show("MainPID") != pid && d.show("ActiveState") == "active" })
	assert.Equal(t, d.sh("find / -xdev -name 'core*' -newer /proc/1 -type f -size +100k 2>/dev/null || true"), "")
}

func TestSystem_Commands(t *testing.T) {
	d := newInstalled(t)
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), "active (running), kept alive by systemd, starts at boot"))
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status", "--json"), `"answers": true`))
	pid := d.show("MainPID")
	d.run("docker", "dso", "system", "restart")
	d.eventually("another agent is there", func() bool { return d.show("MainPID") != pid && d.show("ActiveState") == "active" })
	assert.Assert(t, len(strings.Split(d.run("docker", "dso", "system", "logs", "-n", "3"), "\n")) == 3)
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "--since", "1h"), "agent ready"))
	assert.Assert(t, !strings.Contains(d.run("docker", "dso", "system", "logs", "--priority", "warn"), "agent ready"))
	assert.Equal(t, d.run("docker", "dso", "system", "logs", "--since", "-0s", "--priority", "error"), "")
	out, _ := d.Run(t.Context(), "timeout", "3", "docker", "dso", "system", "logs", "-f", "-n", "1", "--json")
	assert.Assert(t, strings.Contains(out, `"msg"`), out)
	d.run("docker", "dso", "system", "disable")
	assert.Equal(t, d.show("ActiveState"), "inactive")
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), "does not start at boot"))
	d.run("docker", "dso", "system", "enable")
	d.agentActive()
	d.sh("mkdir -p /var/log/dso; echo '{\"time\":\"2026-05-04T03:02:01Z\",\"level\":\"warn\",\"msg\":\"from a file\"}' > /var/log/dso/agent.log")
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "--file", "/var/log/dso/agent.log", "--priority", "warn"), "from a file"))
	_ = time.Now
}
