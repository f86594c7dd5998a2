package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hostsetup"
)

// agentStub answers each call of the API with a value, as JSON.
func agentStub(t *testing.T, answers map[string]any) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dso-cli-") // a socket's path is short
	assert.NilError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	assert.NilError(t, err)
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = wire.Problem{Error: "no answer for " + r.Method + " " + r.URL.Path, Code: wire.CodeNotFound}
		}
		if rows, ok := answer.(stream); ok {
			for _, row := range rows {
				_ = json.NewEncoder(w).Encode(row)
			}
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return socket
}

// stream is an answer of one document a line.
type stream []any

// said is what a command printed and returned.
func said(t *testing.T, in io.Reader, args ...string) (out, errs string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	root := New(in, &o, &e, false)
	root.SetArgs(args)
	root.SetOut(&o)
	err = root.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

var at = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// full are answers with something in every member.
func full() map[string]any {
	open := wire.PendingRotation{
		ID: "r1", Container: "shop-web-1", Strategy: "rolling", Status: "in_progress", Phase: "forward", Step: "gate", Since: at, Age: "3s", NeedsPerson: true, Error: "unhealthy",
	}
	container := wire.ContainerStatus{
		Name: "shop-web-1", ID: "0123456789ab", State: "running", Health: "healthy", Uses: []string{"local:shop/db"}, Has: map[string]string{"local:shop/db": "1"}, Wants: map[string]string{"local:shop/db": "2"},
		Pinned: true, Stale: &wire.Stale{Since: at, Age: "1h", Cause: "timeout"}, Project: "shop", Service: "web", Given: at,
		Pin: &wire.Pin{Since: at, Failed: map[string]string{"local:shop/db": "2"}}, Rotation: &open, Predicted: &wire.Prediction{Seconds: 2.5, Samples: 3, Basis: "this container"},
		Held: "held back", HeldUntil: at, Strategy: "rolling", Reasons: []string{"because"}, Error: "error",
	}
	rotation := wire.Rotation{
		Key: "local:shop/db:0123", ID: "r1", Container: "shop-web-1", Secret: "shop/db", From: map[string]string{"local:shop/db": "1"}, To: map[string]string{"local:shop/db": "2"},
		Strategy: "rolling", Reasons: []string{"because"}, Status: "completed", Phase: "forward", Step: "gate", StuckStep: "stop", Pending: true, Todo: "carry on", Why: "why",
		Outcome: "rotated", Cause: "secret set", Error: "error", Started: at, Updated: at.Add(2 * time.Second),
	}
	version := wire.VersionResponse{Name: "shop/db", Version: "2", Changed: true}
	result := wire.RotateResult{Container: "shop-web-1", Strategy: "rolling", Reasons: []string{"because"}, Outcome: "rotated", Note: "note"}
	return map[string]any{
		"GET /v1/status": wire.Status{
			SchemaVersion: wire.JSONVersion, Runtime: wire.RuntimeStatus{Mode: "agent", Version: "4.0.0", Uptime: "3h", StartTime: at}, AgentReached: true,
			Providers: []wire.ProviderStatus{{
				Name: "vault", Status: "error", Message: "timeout", Circuit: wire.Circuit{State: "open", Failures: 5, Since: at, NextTry: at},
				Calls: wire.ProviderCalls{Version: 3, Value: 2, Failed: 1}, Secrets: 1, Interval: &wire.PollInterval{Shortest: "8s", Longest: "1m"},
				Budget: &wire.CallBudget{PerMinute: 60, Left: 5, Late: "2s"}, LastSuccess: at,
			}},
			Secrets: []wire.SecretStatus{{
				Secret: "local:shop/db", Version: "2", Provider: "local", Since: at, Age: "1h", Checked: at, NextPoll: at, UsedBy: []string{"shop-web-1"}, Error: "error",
			}},
			Containers: []wire.ContainerStatus{container}, Cache: &wire.CacheStatus{Entries: 1},
			AuditHead: "12:" + strings.Repeat("0", 64),
			Fronts:    []wire.Front{{Key: "shop_web", Container: "shop-web-front-1", Service: "web", Running: true, Needed: true, Ordered: 3, Applied: 3, Targets: []string{"0123456789ab"}, Error: "error"}},
			Rotations: wire.RotationStatus{
				Pending: 1, Successful: 2, Failed: 3, AvgTime: "2s", Open: []wire.PendingRotation{open},
				Window: &wire.RotationWindow{Cron: "0 2 * * *", Duration: "2h", Opens: at},
			},
			Configuration: &wire.RejectedConfiguration{File: "/etc/dso/dso.yaml", Problems: []string{"dso.yaml:1:1: problem"}},
			Queue:         &wire.QueueStatus{Depth: 1, MaxDepth: 2, Capacity: 1024, Processed: 3, Dropped: 4},
			Health:        wire.Critical, Reasons: []string{"reason"},
		},
		"POST /v1/container": wire.ContainerDetail{
			SchemaVersion: wire.JSONVersion, ContainerStatus: container, Image: "shop:1", Runtime: "dso",
			References: []wire.ReferenceDetail{
				{Variable: "DB", Reference: "dso://db", Secret: "local:shop/db", Has: "1", Wants: "2"},
				{Variable: "TLS", Reference: "dsofile://tls", Secret: "local:shop/tls", Has: "1", Wants: "1", File: "/run/secrets/dso/tls", Target: true},
			},
		},
		"POST /v1/secret/users": wire.SecretUsers{SchemaVersion: wire.JSONVersion, Secret: "local:shop/db", Version: "2", Users: []wire.SecretUser{{
			Container: "shop-web-1", ID: "0123456789ab", State: "running", Project: "shop", Service: "web", Variables: []string{"DB"}, Has: "1",
		}}},
		"GET /v1/rotations": []wire.Rotation{rotation},
		"GET /v1/locks": []wire.Lock{{
			Secret: "shop/db", Agent: "agent", Path: "/x.lock", PID: 42, Since: at, Age: "1s", BootID: "b", Held: true, Alive: true, SameBoot: true, Note: "note",
		}},
		"POST /v1/seal/key":       wire.Seal{Protection: "file", Key: "l", Dir: "/var/lib/dso/sealed", Containers: 1, Values: 2},
		"GET /v1/seal":            wire.Seal{Protection: "file", Key: "k", Dir: "/var/lib/dso/sealed", Containers: 1, Values: 2},
		"GET /v1/config/versions": []wire.ConfigVersion{{Number: 1, File: "/etc/dso/dso.yaml", Taken: at}},
		"GET /v1/secrets":         []wire.SecretInfo{{Name: "shop/db", Version: "2", Created: at, Versions: 2, Size: 7}},
		"POST /v1/secret/history": []wire.SecretVersion{{
			Version: "2", Created: at, Author: "root", Size: 7, Deleted: true, Current: true,
		}},
		"POST /v1/secret/get":         wire.ValueResponse{Name: "shop/db", Version: "2", Value: []byte("hunter2")},
		"POST /v1/secret/fetch":       wire.ValueResponse{Name: "local:shop/db", Version: "2", Value: []byte("hunter2")},
		"POST /v1/secret/delete":      struct{}{},
		"POST /v1/container/pin":      wire.PinResponse{Container: "shop-web-1", Versions: map[string]string{"local:shop/db": "1"}, Pin: &wire.Pin{Since: at, Failed: map[string]string{"local:shop/db": "2"}, By: "ann"}},
		"POST /v1/container/unpin":    wire.PinResponse{Container: "shop-web-1"},
		"POST /v1/secret/rollback":    version,
		"PUT /v1/secret":              version,
		"POST /v1/vault":              wire.VaultInfo{Dir: "/root/.dso", Created: true},
		"POST /v1/notifications/test": []wire.NotifyResult{{Name: "ops", Status: 500, Error: "it answered 500"}},
		"POST /v1/rotate":             stream{wire.RotateEvent{Step: &wire.RotateStep{Step: "gate"}}, wire.RotateEvent{Done: []wire.RotateResult{result}}},
		"POST /v1/recover":            stream{wire.RotateEvent{Done: []wire.RotateResult{result}}},
		"POST /v1/recover/mark":       rotation,
		"GET /v1/legacy": []wire.Leftover{{
			Kind: "container", ID: "0", Name: "web_old_1", Of: "web", Do: "report", Why: "why", Else: "x", Commands: []string{"docker rm web_old_1"}, Done: true, Error: "error",
		}},
		"GET /v1/events":            stream{wire.Event{Number: 1, Time: at, Level: "info", Message: "agent ready", Fields: map[string]any{"count": 2}}},
		"POST /v1/references/check": []wire.CheckResult{{Reference: "dso://shop/db", Secret: "local:shop/db", Version: "2"}},
	}
}

// What is printed with --json is an interface: these are its shapes, version
// wire.JSONVersion. A member may be added; another change raises the version.
func TestJSON_ShapesAreThoseOfTheirVersion(t *testing.T) {
	socket := agentStub(t, full())
	dir := filepath.Join(t.TempDir(), "audit")
	log, _, err := audit.Open(dir, audit.Options{})
	assert.NilError(t, err)
	assert.NilError(t, log.Append(audit.Record{
		Time: at, What: audit.Deliver, Who: audit.Who{UID: 7, PID: 42, User: "ann"}, Secret: "local:shop/db", Version: "2", Container: "shop-web-1", ID: "0123456789ab", Why: "start", Outcome: "rotated",
	}))
	assert.NilError(t, log.Close())
	env := filepath.Join(t.TempDir(), "x.env")
	assert.NilError(t, os.WriteFile(env, []byte("DB_PASSWORD=hunter2\nPORT=80\n"), 0o600))
	t.Chdir(t.TempDir())
	for name, args := range map[string][]string{
		"status": {"status"}, "plan": {"plan"}, "inspect": {"inspect", "shop-web-1"}, "who-uses": {"who-uses", "shop/db"}, "rotations": {"rotations"},
		"history": {"history"}, "config-history": {"config", "history"}, "diff": {"diff"}, "locks": {"locks"}, "seal": {"seal"}, "seal-new-key": {"seal", "new-key"}, "secret-list": {"secret", "list"}, "secret-history": {"secret", "history", "shop/db"},
		"secret-rollback": {"secret", "rollback", "shop/db"}, "secret-set": {"secret", "set", "shop/db"}, "init": {"init"}, "notifications-test": {"notifications", "test"},
		"rotate": {"rotate", "shop/db"}, "sync": {"sync"}, "apply": {"apply", "--yes"}, "recover": {"recover"}, "recover-mark": {"recover", "--mark-recovered", "local:shop/db:0123"},
		"recover-legacy": {"recover", "--adopt-legacy", "--dry-run"}, "watch": {"watch", "--no-follow"}, "version": {"version"}, "fetch": {"fetch", "shop/db"}, "fetch-value": {"fetch", "shop/db", "--value"},
		"pin": {"pin", "shop-web-1"}, "unpin": {"unpin", "shop-web-1"}, "secret-get": {"secret", "get", "shop/db"}, "secret-delete": {"secret", "delete", "shop/db"},
		"audit": {"audit", "--dir", dir}, "audit-verify": {"audit", "verify", "--dir", dir}, "env-import": {"env", "import", env, "--dry-run", "--namespace", "shop"},
		"config-show": {"config", "show", "-c", filepath.Join(repository, "packaging", "dso.yaml")}, "config-validate": {"config", "validate", "-c", filepath.Join(repository, "packaging", "dso.yaml")}, "validate": {"validate", "--offline"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := said(t, strings.NewReader("hunter2"), append([]string{"--socket", socket}, append(args, "--json")...)...)
			switch ExitCode(err) {
			case ExitOK, ExitUnhealthy, ExitError:
				assert.Assert(t, err == nil || err.Error() == "", "%v", err)
			default:
				assert.NilError(t, err)
			}
			assert.Assert(t, !strings.Contains(out, "hunter2"), out)
			for _, changing := range []string{repository, env, dir} {
				if abs, err := filepath.Abs(changing); err == nil {
					out = strings.ReplaceAll(out, abs, "DIR")
				}
			}
			assert.Assert(t, json.Valid([]byte(strings.TrimSpace(out))), out)
			golden.Assert(t, out, goldenFile("json", name+".json"))
		})
	}
}

// The shapes of what looks at the host itself, and not at what an agent says.
func TestJSON_ShapesOfTheHost(t *testing.T) {
	for name, report := range map[string]any{
		"setup": setupReport{
			Found: &hostsetup.Facts{
				Live: true, Root: "/srv/image", Systemd: true, Group: true, Programs: "/usr/bin", Packaged: true, Enabled: map[string]bool{"dso-agent.service": true},
				Active: true, DockerFound: true, Reached: true, Engine: hostsetup.Info{
					Version: "28.2.2", OS: "Debian GNU/Linux 12", DataRoot: "/var/lib/docker", Security: []string{"name=seccomp"},
					Runtimes: map[string]string{"runc": "runc"}, Default: "runc",
				}, Config: "/etc/docker/daemon.json", Flags: []string{"--iptables=false"},
				Container: "running", Image: "dso-agent:0123456789ab",
			},
			Plan: &hostsetup.Plan{
				Steps: []hostsetup.Step{{
					Kind: hostsetup.CopyFile, What: "copy dso-runtime", Path: "/usr/local/bin/dso-runtime", Name: "dso-agent.service", Source: "/usr/bin/dso-runtime",
					Mode: 0o755, Group: "dso", Effect: hostsetup.ReloadEngine,
				}},
				Notes: []string{"a note"}, Registration: hostsetup.Registration{Path: "/usr/bin/dso-runtime", Default: true},
			},
			Removal: &hostsetup.Removal{Steps: []string{"remove the group dso"}, Kept: []string{"/root/.dso"}},
			Done:    true,
		},
		"system-status": systemReport{
			Service: hostsetup.Service{Manager: hostsetup.BySystemd, Enabled: true, State: "active", PID: 42, Restarts: 1, Said: "waits for the engine", Since: "Mon 2026-05-04 03:02:01 UTC"},
			Answers: true, Error: "no agent is running",
		},
		"system-enable": systemAction{Done: "enable"}, "system-disable": systemAction{Done: "disable"}, "system-restart": systemAction{Done: "restart"},
		"support-bundle": bundleReport{File: "dso.tar.gz", Missing: []string{"agent.log: exit status 1"}},
	} {
		var out bytes.Buffer
		a := &app{asJSON: true, out: &out}
		_, err := a.print(report)
		assert.NilError(t, err)
		golden.Assert(t, out.String(), goldenFile("json", name+".json"))
	}
}

// packageDir is the directory of this package, whatever the working directory is.
var packageDir, _ = filepath.Abs(".")

var repository = filepath.Join(packageDir, "../..")

func goldenFile(parts ...string) string {
	return filepath.Join(append([]string{packageDir, "testdata"}, parts...)...)
}

// Every command that prints with --json has its shape above, or is tested with what
// makes it.
func TestJSON_EveryCommandHasAShape(t *testing.T) {
	elsewhere := []string{
		"bootstrap local", "bootstrap agent", // init's and setup's
		"system logs", "logs", // lines of the agent's own
		"doctor", "migrate",
	}
	root := New(strings.NewReader(""), io.Discard, io.Discard, false)
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		for _, c := range cmd.Commands() {
			name := strings.TrimSpace(path + " " + c.Name())
			if c.Flags().Lookup("json") != nil && c.RunE != nil && !c.DisableFlagParsing {
				_, err := os.Stat(goldenFile("json", strings.ReplaceAll(name, " ", "-")+".json"))
				known := err == nil
				for _, e := range elsewhere {
					known = known || e == name
				}
				assert.Check(t, known, "docker dso %s --json", name)
			}
			walk(c, name)
		}
	}
	walk(root, "")
}

func TestText_WhatAPersonSees(t *testing.T) {
	socket := agentStub(t, full())
	t.Chdir(t.TempDir())
	t.Setenv("TZ", "UTC")
	for name, args := range map[string][]string{
		"plan": {"plan"}, "inspect": {"inspect", "shop-web-1"}, "who-uses": {"who-uses", "shop/db"}, "diff": {"diff"},
		"apply": {"apply", "--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := said(t, nil, append([]string{"--socket", socket}, args...)...)
			assert.NilError(t, err)
			if name == "inspect" {
				lines := strings.Split(out, "\n")
				out = strings.Join(append(lines[:1:1], lines[2:]...), "\n") // how long ago changes
			}
			golden.Assert(t, out, goldenFile("text", name+".txt"))
		})
	}
}

func TestHistory_OfWhatHasNoneSaysSo(t *testing.T) {
	answers := full()
	answers["GET /v1/rotations"] = []wire.Rotation{}
	out, _, err := said(t, nil, "--socket", agentStub(t, answers), "history", "shop-web-1")
	assert.NilError(t, err)
	assert.Equal(t, out, "no rotation of shop-web-1 is remembered\n")
}

func TestStatus_ExitCodeSaysWhetherItIsHealthy(t *testing.T) {
	answers := full()
	_, _, err := said(t, nil, "--socket", agentStub(t, answers), "status")
	assert.Equal(t, ExitCode(err), ExitUnhealthy)
	st := answers["GET /v1/status"].(wire.Status)
	st.Health = wire.Healthy
	answers["GET /v1/status"] = st
	_, _, err = said(t, nil, "--socket", agentStub(t, answers), "status", "--json")
	assert.Equal(t, ExitCode(err), ExitOK)
	out, _, err := said(t, nil, "--socket", "/no/such/socket", "status", "--json")
	assert.Equal(t, ExitCode(err), ExitNoAgent)
	assert.NilError(t, json.Unmarshal([]byte(out), &st))
	assert.Equal(t, st.Health, wire.Unreachable)
	assert.Assert(t, !st.AgentReached && st.AgentError != "")
}

func TestStatus_WatchShowsItAgainAndAgain(t *testing.T) {
	socket := agentStub(t, full())
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	root := New(nil, w, io.Discard, false)
	root.SetArgs([]string{"--socket", socket, "status", "--watch", "--interval", "100ms", "--json"})
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx); _ = w.Close() }()
	d := json.NewDecoder(r)
	for range 3 {
		var st wire.Status
		assert.NilError(t, d.Decode(&st))
		assert.Equal(t, st.Health, wire.Critical)
	}
	cancel()
	_, _ = io.Copy(io.Discard, r)
	assert.NilError(t, <-done)
}

// The engine of another host has another agent.
func TestAgent_OfAnotherHostIsNotThisOne(t *testing.T) {
	socket := agentStub(t, full())
	for host, elsewhere := range map[string]bool{
		"": false, "unix:///var/run/docker.sock": false, "tcp://127.0.0.1:2375": false, "tcp://localhost:2375": false,
		"ssh://root@prod": true, "ssh://prod:2222": true, "tcp://10.0.0.7:2376": true, "https://prod.example": true,
	} {
		call := func(args ...string) error {
			root := New(strings.NewReader("v"), io.Discard, io.Discard, false, WithEndpoint(func() Endpoint { return Endpoint{Context: "prod", Host: host} }), func(a *app) { a.socket = socket })
			root.SetArgs(args)
			return root.ExecuteContext(t.Context())
		}
		for _, args := range [][]string{{"status", "--json"}, {"secret", "set", "shop/db", "--no-wait"}, {"rotations"}} {
			err := call(args...)
			if !elsewhere {
				assert.Check(t, ExitCode(err) != ExitNoAgent || strings.Contains(err.Error(), wire.AgentSocket), "%s %v: %v", host, args, err)
				continue
			}
			assert.Check(t, ExitCode(err) == ExitNoAgent, "%s %v: %v", host, args, err)
			if args[0] != "status" {
				assert.ErrorContains(t, err, `the docker context "prod" is an engine on another host`)
				assert.Assert(t, hintFor(err) != "")
			}
		}
		assert.Check(t, ExitCode(call("--socket", socket, "rotations")) == ExitOK, "a socket that is named is taken")
	}
}

// What looks at this host says so when docker is pointed at another one's engine, or at none.
func TestEndpoint_NothingReportsOnThisHostForAnother(t *testing.T) {
	socket := agentStub(t, full())
	t.Chdir(t.TempDir())
	call := func(e Endpoint, args ...string) error {
		root := New(strings.NewReader("v"), io.Discard, io.Discard, false, WithEndpoint(func() Endpoint { return e }))
		root.SetArgs(args)
		return root.ExecuteContext(t.Context())
	}
	for want, e := range map[string]Endpoint{
		`the docker context "prod" is an engine on another host`:               {Context: "prod", Host: "ssh://root@prod"},
		`the docker context "nosuch" cannot be used: there is no such context`: {Context: "nosuch", Err: errors.New("there is no such context")},
		`DOCKER_HOST cannot be used: it names no engine`:                       {Err: errors.New("it names no engine")},
	} {
		for _, line := range []string{
			"doctor", "doctor --json", "doctor --socket " + socket, "audit", "audit verify", "support-bundle", "support-bundle --json", "logs", "system logs", "system status", "system restart",
			"setup --dry-run", "bootstrap agent --dry-run", "rotations", "secret list", "init",
		} {
			err := call(e, strings.Fields(line)...)
			assert.Check(t, ExitCode(err) == ExitNoAgent && hintFor(err) != "", "%s: %v", line, err)
			assert.Check(t, err != nil && strings.Contains(err.Error(), want), "%s: %v", line, err)
		}
		assert.Check(t, ExitCode(call(e, "audit", "--dir", t.TempDir())) == ExitOK, "a directory that is named is looked at")
	}
	left, err := os.ReadDir(".")
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, "no bundle of this host was written")
}

// Two engines of one host have two agents.
func TestEndpoint_AnotherEngineOfThisHostIsNotTheAgents(t *testing.T) {
	answers := full()
	of := engine.Identity{ID: "a", DataRoot: "/var/lib/docker"}
	answers["GET /v1/locks"] = []wire.Lock{{Agent: "state directory /var/lib/dso/state", Held: true}, {Agent: "engine " + of.String(), Held: true}}
	socket := agentStub(t, answers)
	at := func(host string, id engine.Identity, err error) error {
		return foreign(Endpoint{Context: "rootless", Host: host, Identity: func(context.Context) (string, error) { return EngineName(id.ID, id.DataRoot), err }}, socket)
	}
	rootless, none := "unix:///run/user/1000/docker.sock", engine.Identity{}
	other := engine.Identity{ID: "b", DataRoot: "/home/ann/.local/share/docker"}
	assert.NilError(t, at(rootless, of, nil))
	assert.NilError(t, at(rootless, none, errors.New("it does not answer")), "what cannot be known is no reason")
	assert.NilError(t, at("unix:///var/run/docker.sock", other, nil), "the usual one is not asked")
	err := at(rootless, other, nil)
	assert.ErrorContains(t, err, `the docker context "rootless" is another engine (unix:///run/user/1000/docker.sock, b at /home/ann/.local/share/docker) than that of the agent (a at /var/lib/docker)`)
	assert.Equal(t, ExitCode(err), ExitNoAgent)
	answers["GET /v1/locks"] = []wire.Lock{}
	assert.NilError(t, at(rootless, other, nil), "an agent that has no engine yet")
}

func TestPin_SaysToWhatAndWhoDidIt(t *testing.T) {
	answers := full()
	socket := agentStub(t, answers)
	out, _, err := said(t, nil, "--socket", socket, "pin", "shop-web-1")
	assert.NilError(t, err)
	assert.Equal(t, out, "shop-web-1 is pinned to local:shop/db v1; docker dso unpin shop-web-1 lets it go\n")
	c := &answers["GET /v1/status"].(wire.Status).Containers[0]
	c.Pin.By, c.Stale, c.Error, c.Rotation = "ann", nil, "", nil
	t.Setenv("TZ", "UTC")
	for _, args := range [][]string{{"status"}, {"plan"}} {
		out, _, _ = said(t, nil, append([]string{"--socket", socket}, args...)...)
		assert.Check(t, strings.Contains(out, " by ann"), out)
	}
}

func TestPlan_WhatCannotBeDoneNowIsNotSaidToBeDone(t *testing.T) {
	answers := full()
	c := &answers["GET /v1/status"].(wire.Status).Containers[0]
	c.State, c.UpToDate, c.Pinned, c.Pin, c.Rotation, c.Held, c.HeldUntil = "running", false, false, nil, nil, "", time.Time{}
	c.Error = "kept on the versions before: the store does not answer"
	socket := agentStub(t, answers)
	out, _, err := said(t, nil, "--socket", socket, "plan")
	assert.NilError(t, err)
	assert.Check(t, strings.Contains(out, "nothing yet") && strings.Contains(out, c.Error) && !strings.Contains(out, "change over"), out)
}

func TestPaint_NoColourWhereThereIsNoTerminal(t *testing.T) {
	socket := agentStub(t, full())
	for _, args := range [][]string{{"status"}, {"plan"}, {"audit", "verify", "--dir", t.TempDir()}} {
		out, errs, _ := said(t, nil, append([]string{"--socket", socket}, args...)...)
		assert.Check(t, !strings.Contains(out+errs, "\x1b"), "%v", args)
	}
}

func TestCompletion_OffersVersionsServicesAndWords(t *testing.T) {
	answers := full()
	answers["GET /v1/status"].(wire.Status).Containers[0].Pin.By = "ann"
	answers["POST /v1/secret/history"] = []wire.SecretVersion{{Version: "1"}, {Version: "2", Deleted: true}, {Version: "3", Current: true}}
	socket := agentStub(t, answers)
	t.Chdir(t.TempDir())
	write := func(name, text string) { assert.NilError(t, os.WriteFile(name, []byte(text), 0o600)) }
	write("compose.yaml", "services:\n  web: {image: a}\n  db: {image: a}\n")
	write("other.yaml", "services:\n  worker: {image: a}\n")
	write("dso.yaml", "version: 1\nnotifications:\n  - {name: ops, url: 'https://x.example/'}\n")
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"secret", "rollback", ""}, "shop/db"},
		{[]string{"secret", "rollback", "shop/db", ""}, "3 1"},
		{[]string{"secret", "get", "shop/db", "--version", ""}, "3 1"},
		{[]string{"fetch", "shop/db", "--version", ""}, "3 1"},
		{[]string{"up", ""}, "db web"},
		{[]string{"up", "-d", "web", ""}, "db"},
		{[]string{"up", "-f", "other.yaml", ""}, "worker"},
		{[]string{"down", "w"}, "web"},
		{[]string{"notifications", "test", ""}, "ops"},
		{[]string{"audit", "--secret", ""}, "shop/db"},
		{[]string{"audit", "--container", ""}, "shop-web-1"},
		{[]string{"audit", "--what", "re"}, "read refuse"},
		{[]string{"logs", "--priority", ""}, "error warn info debug"},
		{[]string{"system", "logs", "--priority", "w"}, "warn"},
		{[]string{"pin", ""}, "shop-web-1"},
		{[]string{"unpin", ""}, "shop-web-1"},
		{[]string{"completion", ""}, "bash zsh fish powershell"},
	} {
		out, _, err := said(t, nil, append([]string{"__completeNoDesc", "--socket", socket, "-c", "dso.yaml"}, row.args...)...)
		assert.NilError(t, err)
		offers, _, _ := strings.Cut(out, "\n:") // what follows is for the shell
		assert.Check(t, strings.Join(strings.Fields(offers), " ") == row.want, "%v: %q", row.args, offers)
	}
}

// docker's completion of its plugins and this script are the same: one asks the other.
func TestCompletion_HasAScriptForEachShell(t *testing.T) {
	for _, shell := range shells {
		for _, plugin := range []bool{false, true} {
			var out bytes.Buffer
			root := New(nil, &out, io.Discard, false)
			args := []string{"completion", shell}
			program := "dso"
			if plugin {
				docker := &cobra.Command{Use: "docker"}
				docker.AddCommand(root)
				root, args, program = docker, append([]string{"dso"}, args...), "docker"
			}
			root.SetArgs(args)
			assert.NilError(t, root.ExecuteContext(t.Context()))
			assert.Check(t, strings.Contains(out.String(), "__complete") && strings.Contains(out.String(), program), "%s of %s", shell, program)
		}
	}
	_, _, err := said(t, nil, "completion", "sh")
	assert.Equal(t, ExitCode(err), ExitUsage)
}

func TestAgentHelp_IsThatOfTheCommand(t *testing.T) {
	out, _, err := said(t, nil, "agent", "--help")
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(out, "Examples:") && strings.Contains(out, "docker dso agent --standby"), out)
}

func TestCompletion_OffersRealNames(t *testing.T) {
	socket := agentStub(t, full())
	for want, args := range map[string][]string{
		"shop-web-1": {"inspect", ""}, "shop/db": {"secret", "get", "sh"}, "local:": {}, "shop/db\n": {"who-uses", ""}, "shop-web-1\nshop/db": {"rotate", ""},
	} {
		if len(args) == 0 {
			continue
		}
		out, _, err := said(t, nil, append([]string{"__complete", "--socket", socket}, args...)...)
		assert.NilError(t, err)
		assert.Check(t, strings.Contains(out, want), "%v: %s", args, out)
	}
}
