package host

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// shortDeadline is what starts wait for an agent in these tests, instead of 10 seconds.
const shortDeadline = 2 * time.Second

// An agent that is started at once, as every boot is.
func TestBoot_EverythingRunsAfterAShutDownAndAfterAPowerCut(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		for name, off := range map[string]func() error{"shut down": d.ShutDown, "power cut": d.CutPower} {
			assert.NilError(t, off())
			assert.NilError(t, d.SwitchOn(t.Context()))
			d.agentActive()
			t.Log("after a " + name)
			f.back("v1")
			assert.Equal(t, m.restarts(d), "0")
		}
	})
}

// hold makes a unit not start at boot; the returned function starts it.
func (d *debian) hold(units ...string) (release func()) {
	d.t.Helper()
	d.run("systemctl", append([]string{"disable", "-q"}, units...)...)
	return func() {
		d.t.Helper()
		d.run("systemctl", append([]string{"start", "--no-block"}, units...)...)
		d.run("systemctl", append([]string{"enable", "-q"}, units...)...)
	}
}

func (d *debian) reboot() {
	d.t.Helper()
	assert.NilError(d.t, d.CutPower())
	assert.NilError(d.t, d.SwitchOn(d.t.Context()))
}

// deadline sets how long a start waits for the agent.
func (d *debian) deadline(wait time.Duration) {
	d.t.Helper()
	d.sh(fmt.Sprintf(`jq '.runtimes.dso.runtimeArgs = ["--dso-deadline=%s"]' /etc/docker/daemon.json > /tmp/d && cat /tmp/d > /etc/docker/daemon.json`, wait))
	d.run("systemctl", "reload", "docker")
}

// loading matches what the engine logs before and after it starts the containers that
// shall run: its API is silent in between.
var loading = regexp.MustCompile(`(?m)^(\S+) .*Loading containers: (start|done)`)

// mostSilence is how long the engine's API may be silent at a boot without an agent: the
// deadline, and what the engine itself needs on a machine that is busy.
const mostSilence = shortDeadline + 30*time.Second

// apiSilence is how long the engine's API was silent at the boot.
func (d *debian) apiSilence() time.Duration {
	d.t.Helper()
	d.engineAnswers()
	times := map[string]time.Time{}
	for _, m := range loading.FindAllStringSubmatch(d.run("journalctl", "-b", "-u", "docker", "-o", "short-iso-precise", "--no-pager"), -1) {
		at, err := time.Parse("2006-01-02T15:04:05.999999-0700", m[1])
		assert.NilError(d.t, err)
		times[m[2]] = at
	}
	assert.Equal(d.t, len(times), 2)
	silent := times["done"].Sub(times["start"])
	d.t.Logf("the engine's API was silent for %s", silent)
	return silent
}

var agentUnits = []string{"dso-runtime.socket", "dso-agent.socket", "dso-agent.service"}

// The engine comes up without an agent and without sockets: what needs a value is
// refused after the deadline, what does not runs, and the agent starts the rest.
func TestBoot_TheEngineFirst(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		d.deadline(shortDeadline)
		release := m.hold(d)
		d.reboot()
		assert.Assert(t, d.apiSilence() < mostSilence)
		d.eventually("what needs no value runs", func() bool { return d.run("docker", "inspect", "-f", "{{.State.Running}}", plain) == "true" })
		d.eventually("what needs one is refused", func() bool { return d.run("docker", "inspect", "-f", "{{.State.Running}}", byEnv) == "false" })
		assert.Assert(t, strings.Contains(d.run("docker", "inspect", "-f", "{{.State.Error}}", byEnv), "is dso-agent running?"))
		release()
		d.agentActive()
		f.back("v1")
	})
}

func TestBoot_TheAgentFirst(t *testing.T) {
	d := newInstalled(t, service{})
	f := d.fleet()
	release := d.hold("docker.service", "docker.socket", "containerd.service")
	d.reboot()
	d.eventually("the agent waits for the engine", func() bool { return d.show("StatusText") == "waits for the engine" })
	assert.Equal(t, d.show("ActiveState"), "activating", "it is ready when its recovery is over")
	release()
	d.agentActive()
	f.back("v1")
}

// The sockets are there and the agent is late: later than a start waits.
func TestBoot_TheAgentIsLate(t *testing.T) {
	d := newInstalled(t, service{})
	f := d.fleet()
	d.deadline(shortDeadline)
	assert.NilError(t, d.Write("/etc/systemd/system/dso-agent.service.d/late.conf", "[Service]\nExecStartPre=/bin/sleep 6\n", 0o644))
	d.reboot()
	assert.Assert(t, d.apiSilence() < mostSilence)
	d.agentActive()
	f.back("v1")
}

// An agent that cannot start is tried for ever, does not take systemd's sockets with it, and
// serves when what was wrong is mended.
func TestBoot_TheAgentIsBroken(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		d.deadline(shortDeadline)
		assert.NilError(t, d.Write("/etc/dso/dso.yaml", "version: 1\nno_such_key: 1\n", 0o640))
		d.reboot()
		assert.Assert(t, d.apiSilence() < mostSilence)
		d.eventually("it was started again", func() bool { return m.restarts(d) >= "3" })
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "--since", "1h"), "no_such_key"))
		if m == (service{}) {
			assert.Equal(t, d.run("systemctl", "is-active", "dso-runtime.socket"), "active")
		}
		d.eventually("what needs no value runs", func() bool { return d.run("docker", "inspect", "-f", "{{.State.Running}}", plain) == "true" })
		d.run("rm", "/etc/dso/dso.yaml")
		d.agentActive()
		f.back("v1")
	})
}

// A store that is down at boot: containers start with the values that they had.
func TestBoot_TheStoreIsDownOrAContainerOfThisHost(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		assert.NilError(t, d.Write("/srv/store/app/marker", "from the store", 0o644))
		d.run("docker", "run", "-d", "--name", "store", "--restart", "always", "-p", "127.0.0.1:8200:80", "-v", "/srv/store:/www:ro", "busybox:test", "httpd", "-f", "-h", "/www")
		assert.NilError(t, d.Write("/etc/dso/dso.yaml", `version: 1
providers:
  parameters:
    type: http
    config:
      url: http://127.0.0.1:8200/{path}
`, 0o640))
		m.reload(d)
		d.eventually("the store is known", func() bool {
			return strings.Contains(d.status(), "provider parameters")
		})
		d.sleeper("needs-store", "--runtime", "dso", "--restart", "always", "-e", "VALUE=dso://parameters/app/marker")
		running := func() bool {
			return d.run("docker", "inspect", "-f", "{{.State.Running}}", "needs-store") == "true"
		}

		d.reboot() // the store comes back with the containers that need it
		d.agentActive()
		f.up("v1")
		d.eventually("the container that needs the store runs", running)
		assert.Assert(t, strings.Contains(d.environ("needs-store"), "VALUE=from the store\n"))

		d.run("docker", "update", "--restart", "no", "store")
		d.reboot() // it stays away
		d.agentActive()
		f.back("v1")
		assert.Assert(t, running())
		assert.Assert(t, strings.Contains(d.environ("needs-store"), "VALUE=from the store\n"))
		assert.Assert(t, strings.Contains(d.status(), "stale"), "it is said")
	})
}

// The agent's disk is read-only: containers start and go on, nothing is rotated.
func TestBoot_TheStateIsOnAReadOnlyDisk(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		assert.NilError(t, d.Write("/etc/systemd/system/read-only.service", `[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount --bind /var/lib/dso /var/lib/dso
ExecStart=/bin/mount -o remount,bind,ro /var/lib/dso
[Install]
WantedBy=sysinit.target
`, 0o644))
		d.run("systemctl", "enable", "-q", "read-only.service")
		d.reboot()
		d.engineAnswers()
		f.up("v1")
	})
}
