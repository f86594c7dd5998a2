package host

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// mode is one of the two ways in which docker dso setup makes an agent run. What a user may
// expect of the one, he may of the other, so a test is run in both, but for what has no
// counterpart:
//
//   - TestBoot_TheAgentFirst: a container cannot run before its engine.
//   - TestBoot_TheAgentIsLate: the sockets are there and the agent is not. The sockets of a
//     container are its own; without them TestBoot_TheEngineFirst is the late agent.
//   - TestUnit_IsSandboxed: systemd's judgement of a unit. What the container may do is
//     TestContainer_HasTheRightsThatAreDocumented's.
//   - TestDocs_TheREADMEsInstallSectionWorks: it installs the service.
//   - TestInstall_CompletionsAndManPages: there is no agent in it.
type mode interface {
	// setup are the options of docker dso setup.
	setup() []string
	// keeper is what docker dso system status says of the agent.
	keeper() string
	// ready is when the agent that runs was ready, which is when its recovery is over.
	ready(d *debian) (at time.Time, is bool)
	// pid is the process that runs now, "0" when there is none.
	pid(d *debian) string
	// restarts counts how often the agent was started again because it had ended.
	restarts(d *debian) string
	restart(d *debian) // and does not wait for it
	reload(d *debian)
	stop(d *debian)  // also its sockets
	start(d *debian) // and does not wait for it
	// hold lets the agent not start at boot; release starts it, and at the boots to come.
	hold(d *debian) (release func())
	// kill ends the agent without a warning, so that it is not started again.
	kill(d *debian)
	// hang makes the agent hang, and returns its process.
	hang(d *debian) (pid string)
}

// inBothModes runs a test with the agent as a service and with the agent as a container, at the
// same time: a host waits for itself for much of it.
func inBothModes(t *testing.T, test func(t *testing.T, m mode)) {
	for name, m := range map[string]mode{"service": service{}, "container": container{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, m)
		})
	}
}

// service is the agent as a service of systemd.
type service struct{}

const timestamp = "Mon 2006-01-02 15:04:05.999999 MST"

func (service) setup() []string { return nil }
func (service) keeper() string  { return "active (running), kept alive by systemd, starts at boot" }

func (service) ready(d *debian) (time.Time, bool) {
	d.t.Helper()
	if d.show("ActiveState") != "active" {
		return time.Time{}, false
	}
	at, err := time.Parse(timestamp, d.run("systemctl", "show", "--timestamp=us+utc", "--value", "--property", "ActiveEnterTimestamp", "dso-agent.service"))
	assert.NilError(d.t, err)
	return at, true
}

func (service) pid(d *debian) string      { return d.show("MainPID") }
func (service) restarts(d *debian) string { return d.show("NRestarts") }
func (service) restart(d *debian)         { d.run("systemctl", "restart", "--no-block", "dso-agent.service") }
func (service) reload(d *debian)          { d.run("systemctl", "reload", "dso-agent.service") }
func (service) stop(d *debian)            { d.run("systemctl", append([]string{"stop"}, agentUnits...)...) }
func (service) start(d *debian)           { d.run("systemctl", "start", "--no-block", "dso-agent.service") }
func (service) hold(d *debian) func()     { return d.hold(agentUnits...) }

func (service) kill(d *debian) {
	d.t.Helper()
	assert.NilError(d.t, d.Write("/run/systemd/system/dso-agent.service.d/once.conf", "[Service]\nRestart=no\n", 0o644))
	d.sh("systemctl daemon-reload && systemctl stop dso-agent.socket dso-runtime.socket && systemctl kill -s KILL dso-agent.service")
	d.run("rm", "-r", "/run/systemd/system/dso-agent.service.d")
	d.run("systemctl", "daemon-reload")
}

func (service) hang(d *debian) string {
	d.t.Helper()
	assert.NilError(d.t, d.Write("/etc/systemd/system/dso-agent.service.d/short.conf", "[Service]\nWatchdogSec=2\n", 0o644))
	d.sh("systemctl daemon-reload && systemctl restart dso-agent")
	d.agentActive()
	return d.stopped()
}

// container is the agent as a container of the engine that it works for.
type container struct{}

func (container) setup() []string { return []string{"--container"} }
func (container) keeper() string  { return "running, kept alive by docker, starts at boot" }

func (container) inspect(d *debian, format string) string {
	d.t.Helper()
	return d.run("docker", "inspect", "--format", format, "dso-agent")
}

// ready asks the log, because an engine knows only that a container runs. An engine that
// comes up answers nobody for a while.
func (container) ready(d *debian) (time.Time, bool) {
	d.t.Helper()
	ctx := d.t.Context()
	out, err := d.Run(ctx, "docker", "inspect", "--format", "{{.State.Status}} {{.State.StartedAt}}", "dso-agent")
	state, started, _ := strings.Cut(strings.TrimSpace(out), " ")
	if err != nil || state != "running" {
		return time.Time{}, false
	}
	log, err := d.Run(ctx, "docker", "logs", "--timestamps", "--since", started, "dso-agent")
	if err != nil {
		return time.Time{}, false
	}
	for line := range strings.Lines(log) {
		if when, said, _ := strings.Cut(line, " "); strings.Contains(said, `"agent ready"`) {
			at, err := time.Parse(time.RFC3339Nano, when)
			assert.NilError(d.t, err)
			return at, true
		}
	}
	return time.Time{}, false
}

func (c container) pid(d *debian) string      { return c.inspect(d, "{{.State.Pid}}") }
func (c container) restarts(d *debian) string { return c.inspect(d, "{{.RestartCount}}") }

func (container) restart(d *debian) {
	d.t.Helper()
	cmd := d.Command(d.t.Context(), "docker", "restart", "--time", "60", "dso-agent")
	assert.NilError(d.t, cmd.Start())
	go func() { _ = cmd.Wait() }()
}

// reload does not take docker kill, after which an engine 20.10 does not start a container
// again that ends.
func (c container) reload(d *debian) { d.run("kill", "-HUP", c.pid(d)) }
func (container) stop(d *debian)     { d.run("docker", "stop", "dso-agent") }

func (container) start(d *debian) { d.run("docker", "start", "dso-agent") }

func (container) hold(d *debian) func() {
	d.t.Helper()
	d.run("docker", "update", "--restart", "no", "dso-agent")
	return func() {
		d.t.Helper()
		d.engineAnswers()
		d.run("docker", "start", "dso-agent")
		d.run("docker", "update", "--restart", "always", "dso-agent")
	}
}

func (c container) kill(d *debian) {
	d.t.Helper()
	d.run("docker", "update", "--restart", "no", "dso-agent")
	d.run("kill", "-KILL", c.pid(d))
}

func (container) hang(d *debian) string { return d.stopped() }

// stopped stops the agent's process where it is.
func (d *debian) stopped() (pid string) {
	d.t.Helper()
	pid = d.mode.pid(d)
	d.run("kill", "-STOP", pid)
	return pid
}

// agentReplaced waits until the process is another one, and ready.
func (d *debian) agentReplaced(before string) {
	d.t.Helper()
	d.eventually("another agent is there", func() bool {
		if d.mode.pid(d) == before { // first: the one before was ready
			return false
		}
		_, ready := d.mode.ready(d)
		return ready
	})
}

// setsUp runs docker dso setup in the host's mode.
func (d *debian) setsUp(options ...string) string {
	d.t.Helper()
	return d.run("docker", d.setupCommand(options...)...)
}

func (d *debian) setupCommand(options ...string) []string {
	args := append([]string{"dso", "setup"}, d.mode.setup()...)
	return append(args, options...)
}

func (d *debian) setupLine(options ...string) string {
	return fmt.Sprintf("docker %s", strings.Join(d.setupCommand(options...), " "))
}
