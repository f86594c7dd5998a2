package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	testhost "github.com/docker-secret-operator/dso/test/host"
)

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	assert.NilError(t, err)
	return root
}

// debian is a test host with what a test asks of it.
type debian struct {
	*testhost.Host
	t    *testing.T
	mode mode
}

// newHost boots a Debian host with an engine, and nothing of DSO on it.
func newHost(t *testing.T, m mode) *debian {
	t.Helper()
	h, err := testhost.New(filepath.Join(repository(t), "tools/bin/bookworm"))
	assert.NilError(t, err)
	return boot(t, h, m)
}

func boot(t *testing.T, h *testhost.Host, m mode) *debian {
	t.Helper()
	d := &debian{h, t, m}
	t.Cleanup(func() {
		if t.Failed() && h.PID() != 0 {
			out, _ := h.Run(context.Background(), "sh", "-c", "journalctl -u dso-agent -u dso-agent.socket -u dso-runtime.socket -u docker --no-pager -n 120 -o short-precise; docker ps -a; docker logs --timestamps --tail 60 dso-agent")
			t.Log(out)
		}
		assert.NilError(t, h.Close())
	})
	assert.NilError(t, h.Boot(t.Context()))
	return d
}

// installed are hosts on which DSO runs with a vault and a secret, and which have the
// images, by their mode: made once, and off.
var (
	installing sync.Mutex
	installed  = map[mode]*testhost.Host{}
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, h := range installed {
		if err := h.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newInstalled boots a host on which DSO runs, with a vault and a secret.
func newInstalled(t *testing.T, m mode) *debian {
	t.Helper()
	d := boot(t, forked(t, m), m)
	d.agentActive()
	return d
}

func forked(t *testing.T, m mode) *testhost.Host {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if installed[m] == nil {
		h, err := testhost.New(filepath.Join(repository(t), "tools/bin/bookworm"))
		assert.NilError(t, err)
		installed[m] = h
		assert.NilError(t, h.Boot(t.Context()))
		d := &debian{h, t, m}
		d.engineAnswers()
		d.setUp()
		d.images()
		assert.NilError(t, h.ShutDown())
	}
	h, err := installed[m].Fork()
	assert.NilError(t, err)
	return h
}

// run runs a command, which must succeed.
func (d *debian) run(name string, args ...string) string {
	d.t.Helper()
	out, err := d.Run(d.t.Context(), name, args...)
	assert.NilError(d.t, err)
	return strings.TrimSpace(out)
}

// sh runs a line of shell, which must succeed.
func (d *debian) sh(line string) string {
	d.t.Helper()
	return d.run("bash", "-ec", line)
}

// fails runs a command, which must fail, and returns what it said.
func (d *debian) fails(name string, args ...string) string {
	d.t.Helper()
	out, err := d.Run(d.t.Context(), name, args...)
	assert.Assert(d.t, err != nil, "%s %v succeeded: %s", name, args, out)
	return out
}

// patience bounds a wait. A host boots in two seconds, or in thirty on a machine that
// has other things to do.
const (
	patience = 2 * time.Minute
	pause    = 50 * time.Millisecond
)

// eventually waits until done.
func (d *debian) eventually(what string, done func() bool) {
	d.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			d.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// engineAnswers waits for the engine.
func (d *debian) engineAnswers() {
	d.t.Helper()
	d.eventually("the engine answers", func() bool {
		_, err := d.Run(d.t.Context(), "docker", "info")
		return err == nil
	})
}

// agentActive waits until the agent is ready, and says since when it is.
func (d *debian) agentActive() (since time.Time) {
	d.t.Helper()
	d.eventually("the agent is ready", func() (is bool) {
		since, is = d.mode.ready(d)
		return is
	})
	return since
}

// status is what docker dso status prints; it exits 7 when something is not as it shall be.
func (d *debian) status() string {
	d.t.Helper()
	return d.sh("docker dso status || [ $? = 7 ]")
}

func (d *debian) show(property string) string {
	d.t.Helper()
	return d.run("systemctl", "show", "--value", "--property", property, "dso-agent.service")
}

// pkg is the package that make e2e-host has built, or one in $DSO_PACKAGES.
func pkg(t *testing.T, kind string) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("DSO_PACKAGES"), filepath.Join(repository(t), "bin/package/publish"))
	found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	assert.NilError(t, err)
	assert.Equal(t, len(found), 1, "make package builds it: %v", found)
	return found[0]
}

// install installs the package, as a user does.
func (d *debian) install() {
	d.t.Helper()
	assert.NilError(d.t, d.Copy(pkg(d.t, "deb"), "/root/docker-dso.deb", 0o644))
	d.sh("apt-get install -y -qq --no-install-recommends /root/docker-dso.deb")
}

// setUp is an installed host that runs DSO, with a vault and a secret.
func (d *debian) setUp(options ...string) {
	d.t.Helper()
	d.install()
	d.setsUp(append([]string{"--yes"}, options...)...)
	d.agentActive()
	d.run("docker", "dso", "init")
	d.set("app/marker", "v1")
}

func (d *debian) set(name, value string) {
	d.t.Helper()
	cmd := d.Command(d.t.Context(), "docker", "dso", "secret", "set", name)
	cmd.Stdin = strings.NewReader(value)
	out, err := cmd.CombinedOutput()
	assert.NilError(d.t, err, string(out))
}

// images gives the engine an image with a shell, and the test application; and the host
// Compose.
func (d *debian) images() {
	d.t.Helper()
	assert.NilError(d.t, d.Copy(filepath.Join(repository(d.t), "tools/bin/docker-compose"), "/usr/libexec/docker/cli-plugins/docker-compose", 0o755))
	assert.NilError(d.t, d.Copy("/bin/busybox", "/usr/local/bin/busybox", 0o755))
	assert.NilError(d.t, d.Copy(filepath.Join(repository(d.t), "bin/answerer"), "/root/answerer", 0o755))
	d.sh(`d=$(mktemp -d); mkdir "$d/bin" "$d/tmp"; cp /usr/local/bin/busybox "$d/bin/"
for a in sh cat sleep wget httpd env true; do ln -s busybox "$d/bin/$a"; done
tar -C "$d" -c . | docker import -c 'ENV PATH=/bin' - busybox:test >/dev/null
d=$(mktemp -d); cp /root/answerer "$d/"; tar -C "$d" -c . | docker import -c 'ENTRYPOINT ["/answerer"]' - answerer:test >/dev/null`)
}

// sleeper starts a container that does nothing, with other options.
func (d *debian) sleeper(name string, options ...string) {
	d.t.Helper()
	args := append([]string{"run", "-d", "--name", name, "--init=false", "--stop-signal", "KILL"}, options...)
	d.run("docker", append(args, "busybox:test", "sleep", "100000")...)
}

// environ is the environment of a container's first process, as the kernel knows it.
func (d *debian) environ(name string) string {
	d.t.Helper()
	pid := d.run("docker", "inspect", "-f", "{{.State.Pid}}", name)
	text, err := os.ReadFile(d.Path("/proc/" + pid + "/environ"))
	assert.NilError(d.t, err)
	return string(bytes.ReplaceAll(text, []byte{0}, []byte("\n")))
}

// fleet are the containers of a host that must come back by themselves.
type fleet struct {
	d *debian
}

const (
	plain  = "plain"   // without a reference, and without the runtime
	byEnv  = "by-env"  // restart: always
	byFile = "by-file" // restart: unless-stopped
)

// start starts the fleet.
func (d *debian) fleet() fleet {
	d.t.Helper()
	d.sleeper(plain, "--restart", "always")
	d.sleeper(byEnv, "--runtime", "dso", "--restart", "always", "-e", "MARKER=dso://app/marker")
	d.sleeper(byFile, "--runtime", "dso", "--restart", "unless-stopped", "-e", "MARKER_FILE=dsofile://app/marker")
	d.sleeper("stopped", "--runtime", "dso", "--restart", "unless-stopped", "-e", "MARKER=dso://app/marker")
	d.run("docker", "stop", "stopped")
	f := fleet{d}
	f.up("v1")
	return f
}

// wrong says what is not as it must be.
func (f fleet) wrong(value string) string {
	ctx := f.d.t.Context()
	out, err := f.d.Run(ctx, "docker", "ps", "-a", "--format", "{{.Names}} {{.State}}")
	if err != nil {
		return err.Error()
	}
	want := map[string]string{plain: "running", byEnv: "running", byFile: "running", "stopped": "exited"}
	var wrong []string
	for line := range strings.Lines(out) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		if want[name] != "" && want[name] != state {
			wrong = append(wrong, name+" is "+state)
		}
	}
	if len(wrong) > 0 {
		return strings.Join(wrong, ", ")
	}
	if env := f.d.environ(byEnv); !strings.Contains(env, "MARKER="+value+"\n") {
		return byEnv + " has another value: " + env
	}
	if out, err := f.d.Run(ctx, "docker", "exec", byFile, "sh", "-c", `cat "$MARKER_FILE"`); err != nil || out != value {
		return fmt.Sprintf("%s has %q: %v", byFile, out, err)
	}
	return ""
}

// up waits until all runs that shall, with a value.
func (f fleet) up(value string) {
	f.d.t.Helper()
	wrong := ""
	defer func() {
		if wrong != "" {
			f.d.t.Log(wrong)
		}
	}()
	f.d.eventually("all runs that shall", func() bool {
		wrong = f.wrong(value)
		return wrong == ""
	})
}

// within is how long after the agent is there everything must run.
const within = 5 * time.Second

// back waits until all runs that shall after a boot, and checks that the last container
// was started in time, as systemd and the engine saw it.
func (f fleet) back(value string) {
	f.d.t.Helper()
	f.up(value)
	ready := f.d.agentActive()
	for _, name := range []string{byEnv, byFile} {
		started, err := time.Parse(time.RFC3339Nano, f.d.run("docker", "inspect", "-f", "{{.State.StartedAt}}", name))
		assert.NilError(f.d.t, err)
		f.d.t.Logf("%s was started %s after the agent was ready", name, started.Sub(ready))
		assert.Assert(f.d.t, started.Sub(ready) < within)
	}
}
