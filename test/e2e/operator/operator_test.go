package operator

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/notify"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
	"github.com/docker-secret-operator/dso/test/lab"
)

func (h *host) json(into any, args ...string) {
	h.t.Helper()
	out := h.dso(append(args, "--json")...)
	assert.NilError(h.t, json.Unmarshal([]byte(out), into), out)
}

// scrape is the agent's metrics, by name with labels.
func (h *host) scrape() map[string]string {
	h.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.HostPath("/run/dso/dso.sock"))
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://dso/metrics")
	assert.NilError(h.t, err)
	text, err := io.ReadAll(resp.Body)
	assert.NilError(h.t, errors.Join(err, resp.Body.Close()))
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			values[name] = value
		}
	}
	return values
}

// The health checks have time: what is tested here is not how quick the machine is.
const shopWeb = `
services:
  web:
    image: answerer:test
    healthcheck: &patient {test: [CMD, /answerer, healthcheck], interval: 1s, timeout: 30s, retries: 20}
    ports: ["%d:8080"]
    environment: {APP_SECRET: "dso://marker", APP_EXIT_IF: bad}
    labels: {dso.monitor: 100ms}
`

const shop = shopWeb + `  worker:
    image: answerer:test
    healthcheck: *patient
    environment: {APP_SECRET: "dso://marker", APP_TLS: "dsofile://tls"}
    labels: {dso.monitor: 100ms}
`

// Every number of status and of the metrics is what the engine, the files or the calls
// say.
func TestStatus_EveryNumberIsObserved(t *testing.T) {
	h := newHost(t)
	h.set("shop/tls", "key")
	dir := h.up("shop", fmt.Sprintf(shop, 8310))
	h.set("shop/marker", "v2")
	h.try("/", "bad", "secret", "set", "shop/marker")

	var st wire.Status
	h.json(&st, "status")
	assert.Equal(t, st.SchemaVersion, wire.JSONVersion)
	assert.Equal(t, st.Health, wire.Degraded, "web is pinned")
	assert.Check(t, len(st.Reasons) > 0)
	assert.Equal(t, len(st.Containers), 2)
	for _, c := range st.Containers {
		assert.Check(t, is.Equal(c.State, h.docker("inspect", "-f", "{{.State.Status}}", c.Name)))
		assert.Check(t, is.Equal(c.ID, h.docker("inspect", "-f", "{{.Id}}", c.Name)[:12]))
		assert.Check(t, is.Equal(c.Project, "shop"))
		assert.Check(t, c.Predicted != nil && c.Predicted.Seconds > 0, "there was a rotation")
		assert.Check(t, !c.Given.IsZero())
	}
	web := st.Containers[slices.IndexFunc(st.Containers, func(c wire.ContainerStatus) bool { return c.Service == "web" })]
	assert.Check(t, web.Pinned && web.Pin != nil && web.Pin.Failed["local:shop/marker"] == "3", "%+v", web.Pin)

	var vault []wire.SecretInfo
	h.json(&vault, "secret", "list")
	for _, s := range st.Secrets {
		i := slices.IndexFunc(vault, func(v wire.SecretInfo) bool { return "local:"+v.Name == s.Secret })
		assert.Assert(t, i >= 0, s.Secret)
		assert.Check(t, is.Equal(s.Version, vault[i].Version))
		assert.Check(t, s.Since.Equal(vault[i].Created), "%s %s", s.Since, vault[i].Created)
		assert.Check(t, !s.Checked.IsZero() && !s.NextPoll.IsZero())
	}
	assert.Equal(t, st.Cache.Entries, 2)
	assert.Check(t, st.Queue.Processed > 0 && st.Queue.Capacity > 0)

	m := h.scrape()
	rotated, failed := 0, 0
	for series, value := range m {
		n, _ := strconv.Atoi(value)
		switch {
		case strings.HasPrefix(series, `dso_rotations_total{outcome="rotated"`):
			rotated += n
		case strings.HasPrefix(series, "dso_rotations_total{"):
			failed += n
		}
	}
	assert.Check(t, is.Equal(st.Rotations.Successful, rotated))
	assert.Check(t, is.Equal(st.Rotations.Failed, failed))
	var records []audit.Record // one for each secret: all were for this one
	h.json(&records, "audit", "--what", "rotate", "--secret", "shop/marker")
	assert.Check(t, is.Len(records, rotated+failed))

	assert.Check(t, is.Equal(m["dso_rotations_pending"], "0"))
	assert.Check(t, is.Equal(m["dso_containers_pinned"], "1"))
	assert.Check(t, is.Equal(m["dso_event_queue_depth"], "0"))
	assert.Check(t, is.Equal(m[`dso_agent_info{version="`+st.Runtime.Version+`"}`], "1"))
	assert.Check(t, m[`dso_rotations_total{outcome="rolled_back",strategy="rolling"}`] != "", "%v", m)
	assert.Check(t, m[`dso_rotation_duration_seconds_count{strategy="rolling"}`] != "")
	assert.Check(t, is.Equal(m["dso_audit_failures_total"], "0"))
	audited := 0
	assert.NilError(t, audit.All(h.HostPath("/var/lib/dso/audit"), func(audit.Record) { audited++ }))
	assert.Check(t, is.Equal(m["dso_audit_records_total"], fmt.Sprint(audited)))

	// who-uses, inspect, diff, history, plan: the same again from another side.
	var users wire.SecretUsers
	h.json(&users, "who-uses", "shop/marker")
	assert.Equal(t, len(users.Users), 2)
	var d wire.ContainerDetail
	h.json(&d, "inspect", "shop-worker-1")
	i := slices.IndexFunc(d.References, func(r wire.ReferenceDetail) bool { return r.Variable == "APP_TLS" })
	env, err := os.ReadFile("/proc/" + h.docker("inspect", "-f", "{{.State.Pid}}", "shop-worker-1") + "/environ")
	assert.NilError(t, err)
	assert.Assert(t, i >= 0)
	assert.Check(t, strings.Contains(string(env), "\x00APP_TLS="+d.References[i].File+"\x00"), "%s %q", d.References[i].File, env)
	var rows []wire.Rotation
	h.json(&rows, "history", "shop-web-1")
	assert.Check(t, len(rows) > 0 && rows[0].To["local:shop/marker"] == "3" && rows[0].Outcome == "rolled_back", "%+v", rows)
	s := h.try(dir, "", "diff", "--exit-code")
	assert.Check(t, s.code == lab.Unhealthy && strings.Contains(s.out, "shop-web-1: version of local:shop/marker"), s.out)
}

// The record of who got what is whole, is about everything, and has no value in it.
func TestAudit_TellsWhoGotWhatAndWhy(t *testing.T) {
	h := newHost(t)
	const canary = "canary-7d1f"
	h.set("shop/tls", canary)
	h.up("shop", fmt.Sprintf(shop, 8311))
	h.set("shop/marker", canary)
	assert.Equal(t, h.dso("secret", "get", "shop/marker"), canary)
	_, err := h.Docker(t.Context(), "run", "--rm", "--runtime", "dso", "-e", "APP_SECRET=dso://shop/none", lab.Answerer)
	assert.Assert(t, err != nil)
	h.dso("secret", "rollback", "shop/marker")

	var rows []audit.Record
	h.json(&rows, "audit")
	has := func(what audit.What, match func(audit.Record) bool) {
		t.Helper()
		assert.Check(t, slices.ContainsFunc(rows, func(r audit.Record) bool { return r.What == what && match(r) }), "%s", what)
	}
	root := func(r audit.Record) bool {
		return r.Secret == "local:shop/marker" && !r.Who.Agent && r.Who.UID == 0 && r.Who.PID > 0
	}
	has(audit.Set, root)
	has(audit.Read, root)
	has(audit.Rollback, root)
	has(audit.Ask, root)
	has(audit.Deliver, func(r audit.Record) bool {
		return r.Who.Agent && r.Secret == "local:shop/marker" && r.Version == "1" && r.Container == "shop-web-1" && r.Why == "start"
	})
	has(audit.Rotate, func(r audit.Record) bool {
		return r.Version == "2" && r.Container == "shop-web-1" && r.Outcome == "rotated"
	})
	has(audit.Refuse, func(r audit.Record) bool { return strings.Contains(r.Why, "no secret shop/none") })

	var rep audit.Report
	h.json(&rep, "audit", "verify")
	assert.Equal(t, len(rep.Problems), 0, "%v", rep.Problems)
	head := rep.Head

	// An agent that is killed, what root does meanwhile, and the next one, write one chain.
	assert.NilError(t, h.KillAgent())
	h.set("shop/alone", canary)
	assert.Equal(t, h.dso("secret", "get", "shop/alone"), canary)
	h.dso("secret", "delete", "shop/alone")
	assert.NilError(t, h.StartAgent(t.Context()))
	h.json(&rows, "audit", "--secret", "shop/alone")
	for i, what := range []audit.What{audit.Set, audit.Read, audit.Delete} {
		assert.Check(t, rows[i].What == what && rows[i].Who.UID == 0 && rows[i].Why == "without an agent", "%+v", rows)
	}
	h.set("shop/other", "x")
	h.json(&rep, "audit", "verify", "--expect", head)
	assert.Equal(t, len(rep.Problems), 0, "%v", rep.Problems)

	files, err := filepath.Glob(h.HostPath("/var/lib/dso/audit/*"))
	assert.NilError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		assert.NilError(t, err)
		assert.Check(t, !strings.Contains(string(text), canary))
		info, err := os.Stat(f)
		assert.NilError(t, err)
		assert.Check(t, is.Equal(info.Mode().Perm(), os.FileMode(0o600)))
	}

	// A refusal of the API, by a user who may not read.
	h.sh("chmod 666 /run/dso/dso.sock")
	s := h.run(h.Command(t.Context(), "setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", filepath.Join(h.bin(), "docker-dso"), "dso", "secret", "get", "shop/marker"), "")
	assert.Check(t, s.code != 0, s.out+s.err)
	asOther := h.run(h.Command(t.Context(), "setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", filepath.Join(h.bin(), "docker-dso"), "dso", "system", "restart"), "")
	assert.Check(t, asOther.code == 5 && strings.Contains(asOther.err, "hint: run it as root\n"), asOther.err)
	h.json(&rows, "audit", "--what", "refuse")
	has(audit.Refuse, func(r audit.Record) bool { return r.Who.UID == 4242 && strings.Contains(r.Why, "/v1/secret/get") })

	// Without a record no value is shown.
	assert.NilError(t, h.KillAgent())
	h.sh("mount -t tmpfs -o size=4k tmpfs /var/lib/dso/audit && chmod 700 /var/lib/dso/audit")
	assert.NilError(t, h.StartAgent(t.Context()))
	for s.code = 0; s.code == 0; {
		s = h.try("/", "", "secret", "get", "shop/marker")
	}
	assert.Check(t, strings.Contains(s.err, "audit log cannot be written") && !strings.Contains(s.out, canary), s.out+s.err)
	h.docker("restart", "-t", "1", "shop-worker-1") // containers start all the same
	assert.NilError(t, h.KillAgent())
	h.sh("umount -l /var/lib/dso/audit")
	assert.NilError(t, h.StartAgent(t.Context()))
}

func (h *host) bin() string {
	dir, err := filepath.Abs(filepath.Join(root, "bin"))
	assert.NilError(h.t, err)
	return dir
}

func TestNotifications_TellOfARotationThatFailedSigned(t *testing.T) {
	h := newHost(t)
	got := make(chan *http.Request, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		got <- r
	}))
	t.Cleanup(srv.Close)
	const key = "0123456789abcdef0123"
	// The engine's namespace has no way to the machine's loopback: a socket of its own.
	forward(t, h, 9911, strings.TrimPrefix(srv.URL, "http://"))
	h.configure(`notifications:
  - {name: ops, url: "http://127.0.0.1:9911/hook", secret: ` + key + `, events: [rotation_failed]}
`)
	s := h.try("/", "", "notifications", "test", "--json")
	assert.Equal(t, s.code, 0, s.out+s.err)
	assert.Equal(t, message(t, <-got, key).Event, "test")
	h.up("shop", fmt.Sprintf(shopWeb, 8312))
	h.try("/", "bad", "secret", "set", "shop/marker")
	for {
		m := message(t, <-got, key)
		if m.Message == "rotation ended" {
			assert.Equal(t, m.Event, "rotation_failed")
			assert.Equal(t, m.Fields["outcome"], "rolled_back")
			return
		}
	}
}

func message(t *testing.T, r *http.Request, key string) notify.Message {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	assert.NilError(t, err)
	want := webhook.Sign(secret.NewValue([]byte(key)), r.Header.Get(webhook.HeaderTimestamp), body)
	assert.Equal(t, r.Header.Get(webhook.HeaderSignature), want)
	var m notify.Message
	assert.NilError(t, json.Unmarshal(body, &m))
	return m
}

const envProject = `# the shop
services:
  web:
    image: answerer:test # as ever
    environment:
      APP_SECRET: ${APP_TOKEN}
      PORT: "8080"
`

// By following what is printed: a project in the clear becomes one with references, and
// the containers see the same values.
func TestMigrate_AProjectInTheClear(t *testing.T) {
	h := newHost(t)
	dir, err := h.Project("clear", envProject)
	assert.NilError(t, err)
	const value = "hunter2-in-the-clear"
	assert.NilError(t, os.WriteFile(filepath.Join(dir, ".env"), []byte("APP_TOKEN="+value+"\nLEVEL=info\n"), 0o600))
	s := h.try(dir, "", "migrate")
	assert.Equal(t, s.code, 0, s.out+s.err)
	assert.Assert(t, strings.Contains(s.out, "secret clear/app_token") && !strings.Contains(s.out, value), s.out)
	_, err = os.Stat(filepath.Join(dir, "compose.dso.yaml"))
	assert.Assert(t, os.IsNotExist(err), "it only shows")

	s = h.try(dir, "", "migrate", "--apply", "--yes")
	assert.Equal(t, s.code, 0, s.out+s.err)
	for file, want := range map[string]string{"compose.yaml": envProject, ".env": "APP_TOKEN=" + value + "\nLEVEL=info\n"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		assert.NilError(t, err)
		assert.Equal(t, string(text), want, "an original stays what it is")
	}
	s = h.try(dir, "", "migrate", "--apply", "--yes")
	assert.Assert(t, s.code != 0 && strings.Contains(s.err, "is there already"), s.out+s.err)

	s = h.try(dir, "", "up", "-f", "compose.dso.yaml", "-d", "--wait")
	assert.Equal(t, s.code, 0, s.out+s.err)
	pid := h.docker("inspect", "-f", "{{.State.Pid}}", "clear-web-1")
	env, err := os.ReadFile("/proc/" + pid + "/environ")
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(env), "APP_SECRET="+value))
	assert.Assert(t, !strings.Contains(h.docker("inspect", "clear-web-1"), value))

	// env import, export, fetch and inject, with the same value.
	s = h.try(dir, "", "env", "import", ".env", "--namespace", "imported")
	assert.Equal(t, s.code, 0, s.out+s.err)
	s = h.try(dir, "", "export", "imported/app_token", "--output", "out.env")
	assert.Assert(t, s.code == 0 && strings.Contains(s.err, "in the clear"), s.out+s.err)
	info, err := os.Stat(filepath.Join(dir, "out.env"))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
	text, err := os.ReadFile(filepath.Join(dir, "out.env"))
	assert.NilError(t, err)
	assert.Equal(t, string(text), "APP_TOKEN='"+value+"'\n")
	assert.Equal(t, h.dso("fetch", "imported/app_token"), "local:imported/app_token: version 1\n")
	assert.Equal(t, h.dso("fetch", "imported/app_token", "--value"), value)
	assert.Equal(t, h.dso("inject", "--env", "X=dso://imported/app_token", "--", "sh", "-c", "echo $X"), value+"\n")
}

// What is packed for whoever helps holds what the seed asks for, and no value.
func TestSupportBundle_HoldsWhatHelpsAndNoValue(t *testing.T) {
	h := newHost(t)
	const canary = "canary-5b0e"
	h.configure("providers: {x: {type: http, config: {url: 'https://x.invalid/{path}'}, auth: {method: bearer, params: {token: " + canary + "}}}}\n")
	h.set("shop/tls", canary)
	h.up("shop", fmt.Sprintf(shop, 8313))
	h.set("shop/marker", canary)
	dir := t.TempDir()
	s := h.try(dir, "", "support-bundle", "--output", "b.tar.gz")
	assert.Equal(t, s.code, 0, s.out+s.err)
	f, err := os.Open(filepath.Join(dir, "b.tar.gz"))
	assert.NilError(t, err)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
	zip, err := gzip.NewReader(f)
	assert.NilError(t, err)
	var names []string
	for r := tar.NewReader(zip); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		names = append(names, strings.TrimPrefix(header.Name, "dso-support/"))
		text, err := io.ReadAll(r)
		assert.NilError(t, err)
		assert.Check(t, !strings.Contains(string(text), canary), header.Name)
	}
	for _, want := range []string{"doctor.json", "status.json", "rotations.json", "locks.json", "events.jsonl", "metrics.txt", "config.yaml", "audit.jsonl", "docker-version.txt", "containers.txt", "kernel.txt", "missing.txt"} {
		assert.Check(t, slices.Contains(names, want), want)
	}
	s = h.try(dir, "", "support-bundle", "--output", "b.tar.gz")
	assert.Assert(t, s.code != 0, "it overwrites nothing")
}

// An engine that hangs takes connections and answers nothing.
func TestStatus_AnEngineThatHangsIsSaidTo(t *testing.T) {
	h := newHost(t)
	text, err := os.ReadFile(filepath.Join(h.Engine.Dir(), "dockerd.pid"))
	assert.NilError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	assert.NilError(t, err)
	assert.NilError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { assert.NilError(t, syscall.Kill(pid, syscall.SIGCONT)) })
	code := h.sh(`curl -s -o /dev/null -w '%{http_code}' --max-time 10 http://127.0.0.1:8471/health`)
	assert.Equal(t, code, "503")
	s := h.try("/", "", "status")
	assert.Equal(t, s.code, 1, s.out+s.err)
	assert.Assert(t, strings.Contains(s.err, "the Docker Engine has not answered for 15s"), s.err)
}

// The engine that docker is pointed at is another host's: so is its agent.
func TestContext_OfAnotherHostIsHonoured(t *testing.T) {
	h := newHost(t)
	h.docker("context", "create", "prod", "--docker", "host=ssh://root@prod.invalid")
	s := h.run(h.Command(t.Context(), "docker", "--context", "prod", "dso", "status"), "")
	assert.Equal(t, s.code, 4, s.out+s.err)
	assert.Assert(t, strings.Contains(s.err, `the docker context "prod" is an engine on another host (ssh://root@prod.invalid)`), s.err)
	assert.Assert(t, strings.Contains(s.err, "ssh root@prod.invalid docker dso"), s.err)
	s = h.run(h.Command(t.Context(), "env", "DOCKER_CONTEXT=prod", filepath.Join(h.bin(), "docker-dso"), "dso", "rotations"), "")
	assert.Equal(t, s.code, 4, s.out+s.err)
	for _, context := range []string{"prod", "nosuch"} {
		for _, args := range [][]string{{"status"}, {"audit"}, {"audit", "verify"}, {"support-bundle"}, {"doctor"}} {
			s = h.run(h.Command(t.Context(), "docker", append([]string{"--context", context, "dso"}, args...)...), "")
			assert.Check(t, s.code == 4 && strings.Contains(s.err, `the docker context "`+context+`"`), "%s %v: %d %s", context, args, s.code, s.out+s.err)
		}
	}
	s = h.run(h.Command(t.Context(), "docker", "--context", "default", "dso", "rotations"), "")
	assert.Equal(t, s.code, 0, s.out+s.err)
	s = h.run(h.Command(t.Context(), "docker", "__complete", "dso", "secret", "get", ""), "")
	assert.Equal(t, s.code, 0, s.out+s.err)
}
