package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/test/lab"
)

// report is what docker dso doctor --json says.
func (h *host) report(args ...string) doctor.Report {
	h.t.Helper()
	s := h.try("/", "", append([]string{"doctor", "--json"}, args...)...)
	var r doctor.Report
	assert.NilError(h.t, json.Unmarshal([]byte(s.out), &r), s.out+s.err)
	want := 0
	if r.Overall == doctor.Fail {
		want = 1
	}
	assert.Equal(h.t, s.code, want, s.err)
	return r
}

func result(r doctor.Report, id string) doctor.Result {
	i := slices.IndexFunc(r.Checks, func(c doctor.Result) bool { return strings.HasSuffix(c.ID, id) })
	if i < 0 {
		return doctor.Result{}
	}
	return r.Checks[i]
}

// onHost are the checks about the machine that the tests run on: its kernel, its disk,
// its clock, and that it has no systemd.
var onHost = []string{"DSO-DOCTOR-019", "DSO-DOCTOR-020", "DSO-DOCTOR-021", "DSO-DOCTOR-022", "DSO-DOCTOR-023", "DSO-DOCTOR-025"}

// Each way of damaging a host that doctor claims to see is done to a real one.
func TestDoctor_SeesWhatWasDamaged(t *testing.T) {
	h := newHost(t)
	h.up("shop", `services: {web: {image: answerer:test, healthcheck: {test: [CMD, /answerer, healthcheck], interval: 1s, timeout: 30s, retries: 20}, ports: ["8300:8080"], environment: {APP_SECRET: dso://marker, APP_EXIT_IF: bad}, labels: {dso.monitor: 100ms}}}`)
	lab.Eventually(t, "the host is well", func() bool { return h.report().Overall != doctor.Fail })
	for _, c := range h.report().Checks {
		well := c.Status == doctor.Pass || c.Status == doctor.Info || slices.Contains(onHost, c.ID)
		assert.Check(t, well, "%s %s: %s", c.ID, c.Status, c.Detail)
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			h := &host{h.Lab, t}
			undo := sync.OnceFunc(d.do(h))
			t.Cleanup(undo)
			got := doctor.Result{}
			lab.Eventually(t, "doctor sees it", func() bool {
				got = result(h.report(), d.id)
				return got.Status == d.status
			})
			t.Logf("%s: %s", got.Detail, got.RootCause)
			assert.Check(t, strings.Contains(got.Detail, d.says), got.Detail)
			if d.fix {
				h.report("--fix", "--yes")
			} else {
				undo()
			}
			lab.Eventually(t, "all is well again", func() bool {
				got = result(h.report(), d.id)
				return got.Status == doctor.Pass || got.Status == doctor.Info || slices.Contains(onHost, got.ID)
			})
		})
	}
}

type damage struct {
	name   string
	id     string
	status doctor.Status
	says   string
	fix    bool // doctor --fix --yes repairs it
	do     func(*host) (undo func())
}

func nothing() {}

var damages = []damage{
	{"no agent", "001", doctor.Fail, "no agent is running", false, func(h *host) func() {
		assert.NilError(h.t, h.KillAgent())
		return func() { assert.NilError(h.t, h.StartAgent(h.t.Context())) }
	}},
	{"a second agent", "002", doctor.Fail, "--state-dir /var/lib/second", false, func(h *host) func() {
		h.sh("mkdir -p /var/lib/second-locks")
		cmd := h.Command(h.t.Context(), "dso-agent", "--state-dir", "/var/lib/second/state", "--run-dir", "/var/lib/second/run", "--lock-dir", "/var/lib/second-locks", "--vault", "/var/lib/second/vault")
		cmd.WaitDelay = time.Second
		assert.NilError(h.t, cmd.Start())
		return func() {
			assert.NilError(h.t, cmd.Process.Signal(syscall.SIGTERM))
			_ = cmd.Wait()
			h.sh("umount -l /var/lib/second/run/private || true")
		}
	}},
	{"no engine", "004", doctor.Fail, "", false, func(h *host) func() {
		assert.NilError(h.t, h.Kill())
		return func() {
			assert.NilError(h.t, h.StartDaemon(h.t.Context()))
			h.docker("start", "shop-web-1", "shop-web-front-1")
		}
	}},
	{"no runtime", "006", doctor.Fail, "there are", false, func(h *host) func() {
		assert.NilError(h.t, h.ReloadWith(h.t.Context(), map[string]any{"runtimes": map[string]any{}}))
		return func() { assert.NilError(h.t, h.ReloadWith(h.t.Context(), nil)) }
	}},
	{"a runtime that cannot be started", "007", doctor.Fail, "/no/such/runtime", false, func(h *host) func() {
		assert.NilError(h.t, h.ReloadWith(h.t.Context(), map[string]any{"runtimes": map[string]any{"dso": map[string]any{"path": "/no/such/runtime"}}}))
		return func() { assert.NilError(h.t, h.ReloadWith(h.t.Context(), nil)) }
	}},
	{"two containers in one place", "008", doctor.Fail, "twin", false, func(h *host) func() {
		h.docker("run", "-d", "--name", "twin", "--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web",
			"--label", "com.docker.compose.container-number=1", "-e", "APP_SECRET=x", lab.Answerer)
		return func() { h.docker("rm", "-f", "twin") }
	}},
	{"a start that is refused", "009", doctor.Fail, "no secret app/nothing", false, func(h *host) func() {
		_, err := h.Docker(h.t.Context(), "run", "-d", "--runtime", "dso", "--name", "refused", "-e", "APP_SECRET=dso://app/nothing", lab.Answerer)
		assert.Assert(h.t, err != nil)
		return func() { h.docker("rm", "-f", "refused") }
	}},
	{"a leftover of an older version", "010", doctor.Warn, "lone_dso_backup_1700000000", true, func(h *host) func() {
		h.docker("run", "-d", "--name", "lone", "-e", "APP_SECRET=x", lab.Answerer)
		h.docker("create", "--name", "lone_dso_backup_1700000000", "-e", "APP_SECRET=x", lab.Answerer)
		lab.Eventually(h.t, "lone is healthy", func() bool { return h.docker("inspect", "-f", "{{.State.Health.Status}}", "lone") == "healthy" })
		return func() { h.docker("rm", "-f", "lone") }
	}},
	{"references under another runtime", "011", doctor.Fail, "plain has the runtime runc, and is running", false, func(h *host) func() {
		h.docker("run", "-d", "--name", "plain", "-e", "APP_SECRET=x", "-e", "OTHER=dso://app/x", lab.Answerer)
		return func() { h.docker("rm", "-f", "plain") }
	}},
	{"a journal that is cut off", "012", doctor.Fail, "rotations.json", false, func(h *host) func() {
		h.write("/var/lib/dso/state/rotations.json", `{"local:`)
		return func() {
			assert.NilError(h.t, h.KillAgent())
			assert.NilError(h.t, h.StartAgent(h.t.Context()))
		}
	}},
	{"a file in quarantine", "013", doctor.Warn, "rotations.json.corrupt-", true, func(h *host) func() {
		h.write("/var/lib/dso/state/rotations.json.corrupt-20260504T030201Z", "{")
		return nothing
	}},
	{"a lock that nobody holds", "014", doctor.Warn, "old.lock", true, func(h *host) func() {
		h.write("/var/lib/dso/locks/old.lock", "4194000")
		return nothing
	}},
	{"a rotation that needs a person", "015", doctor.Fail, "ghost", false, func(h *host) func() {
		assert.NilError(h.t, h.KillAgent())
		h.write("/var/lib/dso/state/rotations.json", `{"local:a:b": {"id": "r", "provider_name": "local", "secret_name": "a", "original_container_id": "b",
			"container_name": "ghost", "status": "critical_error", "strategy": "none", "phase": "forward", "stuck_step": "refresh", "error_message": "x"}}`)
		assert.NilError(h.t, h.StartAgent(h.t.Context()))
		return func() { h.dso("recover", "--mark-recovered", "local:a:b") }
	}},
	{"a store that does not answer", "016", doctor.Fail, "dead", false, func(h *host) func() {
		gone := httptest.NewServer(http.NotFoundHandler())
		gone.Close()
		h.configure(fmt.Sprintf("providers: {dead: {type: http, config: {url: '%s/{path}'}, retry: {attempts: 1}}}\n", gone.URL))
		s := h.try("/", "", "fetch", "dead/x")
		assert.Equal(h.t, s.code, 1, s.out+s.err)
		return func() { h.configure("") }
	}},
	{"a version that did not work", "017", doctor.Warn, "pinned", false, func(h *host) func() {
		h.try("/", "bad", "secret", "set", "shop/marker")
		return func() { h.set("shop/marker", "v3") }
	}},
	{"a front that was stopped", "018", doctor.Fail, "does not run", false, func(h *host) func() {
		h.docker("stop", "-t", "1", "shop-web-front-1")
		return func() { h.docker("start", "shop-web-front-1") }
	}},
	{"a front that was removed", "018", doctor.Fail, "has no front", false, func(h *host) func() {
		h.docker("rm", "-f", "shop-web-front-1")
		s := h.try("/", "", "status")
		assert.Equal(h.t, s.code, 7, s.out)
		assert.Assert(h.t, strings.Contains(s.out, "service shop_web has no front"), s.out)
		return func() {
			s := h.try(filepath.Join(h.Dir, "shop"), "", "up", "-d", "--wait")
			assert.Equal(h.t, s.code, 0, s.out+s.err)
		}
	}},
	{"a front without its tables", "018", doctor.Fail, "shop-web-front-1", false, func(h *host) func() {
		pid := h.docker("inspect", "-f", "{{.State.Pid}}", "shop-web-front-1")
		h.sh("nsenter -t " + pid + " -n nft flush ruleset")
		return func() { h.docker("restart", "-t", "1", "shop-web-front-1") }
	}},
	{"a directory that everybody may enter", "024", doctor.Fail, "/var/lib/dso/state has mode 0755", true, func(h *host) func() {
		h.sh("chmod 755 /var/lib/dso/state; chmod 666 /run/dso/dso.sock")
		return nothing
	}},
	{"a configuration that is wrong", "026", doctor.Fail, "unknown key `agents`", false, func(h *host) func() {
		h.write("/etc/dso/dso.yaml", "agents: {}\n")
		return func() { h.configure("") }
	}},
	{"no docker compose", "027", doctor.Warn, "docker compose", false, func(h *host) func() {
		link := filepath.Join(h.Engine.Dir(), "home/.docker/cli-plugins/docker-compose")
		to, err := os.Readlink(link)
		assert.NilError(h.t, err)
		assert.NilError(h.t, os.Remove(link))
		return func() { assert.NilError(h.t, os.Symlink(to, link)) }
	}},
	{"an audit log that somebody changed", "028", doctor.Fail, "000000000001.jsonl", false, func(h *host) func() {
		file := h.HostPath("/var/lib/dso/audit/000000000001.jsonl")
		text, err := os.ReadFile(file)
		assert.NilError(h.t, err)
		changed := strings.Replace(string(text), `"what":"set"`, `"what":"ask"`, 1)
		assert.Assert(h.t, changed != string(text))
		assert.NilError(h.t, os.WriteFile(file, []byte(changed), 0o600))
		return func() {
			assert.NilError(h.t, os.WriteFile(file, []byte(strings.Replace(changed, `"what":"ask"`, `"what":"set"`, 1)), 0o600))
		}
	}},
	{"a full disk", "021", doctor.Fail, "/var/lib/dso", false, func(h *host) func() {
		assert.NilError(h.t, h.KillAgent())
		h.sh("mount -t tmpfs -o size=64k tmpfs /var/lib/dso; head -c 1m /dev/zero > /var/lib/dso/full || true")
		return func() {
			h.sh("umount /var/lib/dso")
			assert.NilError(h.t, h.StartAgent(h.t.Context()))
		}
	}},
	{"no inodes", "022", doctor.Fail, "/var/lib/dso", false, func(h *host) func() {
		assert.NilError(h.t, h.KillAgent())
		h.sh("mount -t tmpfs -o nr_inodes=10 tmpfs /var/lib/dso; for i in 1 2 3 4 5 6 7 8 9 10; do touch /var/lib/dso/$i || true; done")
		return func() {
			h.sh("umount /var/lib/dso")
			assert.NilError(h.t, h.StartAgent(h.t.Context()))
		}
	}},
	{"a tmpfs that was unmounted", "025", doctor.Fail, "nothing is mounted", false, func(h *host) func() {
		h.sh("umount -l /run/dso/private")
		return func() {
			assert.NilError(h.t, h.KillAgent())
			assert.NilError(h.t, h.StartAgent(h.t.Context()))
		}
	}},
}

// What no engine here can be made to be: the one that is there, seen through a proxy that
// makes it older, or its clock another.
func TestDoctor_SeesAnEngineThatIsTooOldOrElsewhere(t *testing.T) {
	h := newHost(t)
	const socket = "/run/dso/other-engine.sock"
	for _, d := range []struct{ id, says, path, field, value string }{
		{"005", "API 1.40", "/version", "ApiVersion", "1.40"},
		// Half a minute for a slow machine: the time is looked at later.
		{"023", "the engine's clock is off by 2h0m", "/info", "SystemTime", time.Now().Add(2*time.Hour + 30*time.Second).Format(time.RFC3339Nano)},
	} {
		t.Run(d.field, func(t *testing.T) {
			h := &host{h.Lab, t}
			proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
				Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
				}},
				ModifyResponse: func(r *http.Response) error {
					if !strings.HasSuffix(r.Request.URL.Path, d.path) {
						return nil
					}
					var said map[string]any
					if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
						return err
					}
					said[d.field] = d.value
					changed, err := json.Marshal(said)
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
					r.Header.Del("Content-Length")
					return err
				},
			})
			var err error
			proxy.Listener, err = net.Listen("unix", h.HostPath(socket))
			assert.NilError(t, err)
			proxy.Start()
			t.Cleanup(proxy.Close)
			s := h.run(h.Command(t.Context(), "docker", "--host", "unix://"+socket, "dso", "doctor", "--json"), "")
			var r doctor.Report
			assert.NilError(t, json.Unmarshal([]byte(s.out), &r), s.out+s.err)
			got := result(r, d.id)
			assert.Assert(t, got.Status != doctor.Pass && strings.Contains(got.Detail, d.says), "%+v", got)
			assert.Assert(t, len(got.Recovery) > 0)
		})
	}
}

// The checklist's last line.
func TestDoctor_TestRotatesAContainerOfItsOwnAndLeavesNothing(t *testing.T) {
	h := newHost(t)
	images := func() []string { return slices.Sorted(slices.Values(strings.Fields(h.docker("images", "-q")))) } // two of one second have no order
	before := images()
	got := result(h.report("--test"), "100")
	assert.Equal(t, got.Status, doctor.Pass, got.Detail)
	assert.Assert(t, strings.Contains(got.Detail, "changed over by rolling"), got.Detail)
	assert.Equal(t, h.docker("ps", "-aq"), "")
	assert.DeepEqual(t, images(), before)
	assert.Assert(t, !strings.Contains(h.dso("secret", "list"), "dso-doctor"))
	left, err := h.Leftovers(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, "%v", left)
}
