package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/local"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/watch"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) count(text string) int {
	return strings.Count(l.String(), text)
}

// rig is an agent's settings over a file.
type rig struct {
	*settings
	t    *testing.T
	file string
	log  *logged
	hup  chan os.Signal
}

func files(name, dir string) string {
	return fmt.Sprintf("  %s: {type: file, config: {dir: %s}}\n", name, dir)
}

func newRig(t *testing.T, text string) *rig {
	r := &rig{t: t, file: filepath.Join(t.TempDir(), "dso.yaml"), log: &logged{}, hup: make(chan os.Signal)}
	r.write(text, 0o600)
	c, err := LoadConfig(r.file)
	assert.NilError(t, err)
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.settings, err = newSettings(Config{Log: log, ConfigFile: r.file, Loaded: c, Level: new(slog.LevelVar)},
		local.New(filepath.Join(t.TempDir(), "vault")), provider.NewFingerprint([]byte("key")), nil)
	assert.NilError(t, err)
	r.settle = time.Millisecond
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.runWith(ctx, r.hup) }()
	r.t.Cleanup(func() { cancel(); <-done })
}

// write replaces the file, as an editor does.
func (r *rig) write(text string, mode os.FileMode) {
	r.t.Helper()
	assert.NilError(r.t, os.WriteFile(r.file+".new", []byte(text), 0o600))
	assert.NilError(r.t, os.Chmod(r.file+".new", mode))
	assert.NilError(r.t, os.Rename(r.file+".new", r.file))
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	poll.WaitOn(r.t, func(poll.LogT) poll.Result {
		if ok() {
			return poll.Success()
		}
		return poll.Continue("%s; the log: %s", what, r.log)
	}, poll.WithTimeout(10*time.Second), poll.WithDelay(2*time.Millisecond))
}

func (r *rig) has(name string) func() bool {
	return func() bool { return r.resolver.Providers().Has(name) }
}

func TestSettings_AGoodFileReplacesTheProvidersAndLeavesTheSameOnesAlone(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, "providers:\n"+files("a", dir)+files("b", dir))
	r.run()
	a, err := r.resolver.Providers().Lookup("a")
	assert.NilError(t, err)
	r.write("providers:\n"+files("a", dir)+files("c", dir), 0o600)
	r.until("c is there", r.has("c"))
	again, err := r.resolver.Providers().Lookup("a")
	assert.NilError(t, err)
	assert.Assert(t, a == again, "the provider that did not change is the same")
	assert.Assert(t, !r.resolver.Providers().Has("b"))
	assert.Assert(t, r.resolver.Providers().Has("local"))

	r.write("providers:\n"+files("a", filepath.Join(dir, "other"))+files("d", dir), 0o600)
	r.until("d is there", r.has("d"))
	again, err = r.resolver.Providers().Lookup("a")
	assert.NilError(t, err)
	assert.Assert(t, a != again, "the provider that changed is another")
}

func TestSettings_ABadFileIsReportedOnceAndTheLastGoodOneStays(t *testing.T) {
	dir := t.TempDir()
	good := "providers:\n" + files("a", dir)
	r := newRig(t, good)
	r.run()
	const bad = "providers:\n  a: {type: fil, config: {dir: /x}}\nzzz: 1\n"
	r.write(bad, 0o600)
	const kept = "configuration not taken, the last good one stays"
	r.until("reported", func() bool { return r.log.count(kept) == 2 })
	assert.Equal(t, r.log.count("unknown provider type `fil`, did you mean `file`?"), 1)
	assert.Equal(t, r.log.count("dso.yaml:3:1: unknown key `zzz`"), 1)
	assert.Assert(t, r.has("a")())

	r.write(bad, 0o600) // the same again, and something in its directory
	r.write("providers:\n"+files("a", dir)+files("b", dir), 0o644)
	r.until("mended", r.has("b"))
	assert.Equal(t, r.log.count(kept), 2)

	assert.NilError(t, os.Chmod(r.file, 0o646))
	r.until("a mode is a change too", func() bool { return r.log.count("every user of this host can write the file") == 1 })
	assert.NilError(t, os.Remove(r.file))
	r.until("gone", func() bool { return r.log.count("no such file") == 1 })
	assert.Assert(t, r.has("b")())
}

func TestSettings_WarningsOfAFileThatIsTakenAreLogged(t *testing.T) {
	dir := t.TempDir()
	notDir := filepath.Join(dir, "file")
	assert.NilError(t, os.WriteFile(notDir, nil, 0o600))
	odd := "providers:\n" + files("a", notDir)
	r := newRig(t, odd)
	warning := notDir + " is not a directory"
	assert.Equal(t, r.log.count(warning), 1, r.log.String())
	r.run()
	r.write(odd+files("b", dir), 0o600)
	r.until("taken", func() bool { return r.log.count(warning) == 2 })
}

func TestSettings_AProviderThatCannotBeMadeChangesNothing(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, "providers:\n"+files("a", dir))
	r.run()
	r.write("providers:\n"+files("b", dir)+"  v: {type: vault, config: {address: 'https://x', tls: {ca_file: /nonexistent/ca.pem}}, auth: {params: {token: x}}}\n", 0o600)
	r.until("reported", func() bool { return r.log.count("provider v: read ca_file: open /nonexistent/ca.pem") == 1 })
	assert.Assert(t, r.has("a")())
	assert.Assert(t, !r.has("b")())
}

func TestSettings_HangupReadsTheCredentialsAgain(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	assert.NilError(t, os.WriteFile(token, []byte("one"), 0o600))
	r := newRig(t, "providers:\n  v: {type: vault, config: {address: 'https://x'}, auth: {params: {token_file: "+token+"}}}\n")
	r.run()
	before, err := r.resolver.Providers().Lookup("v")
	assert.NilError(t, err)
	changed := func() bool {
		now, err := r.resolver.Providers().Lookup("v")
		return err == nil && now != before
	}
	r.hup <- os.Interrupt
	r.until("taken", func() bool { return r.log.count("configuration taken") == 1 })
	assert.Assert(t, !changed(), "nothing changed")
	assert.NilError(t, os.WriteFile(token, []byte("two"), 0o600))
	r.hup <- os.Interrupt
	r.until("another provider", changed)
}

// A wrapping token can be asked for once: the provider that takes the place of the one
// that did, because the file was replaced while the agent ran, needs what was in it.
func TestSettings_AProviderMadeAnewKeepsWhatWasUnwrapped(t *testing.T) {
	var unwrapped sync.Map // by wrapping token
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/v1/sys/wrapping/unwrap":
			fmt.Fprint(w, `{"data": {"ttl": 0, "password": "x"}}`)
		default:
			if _, before := unwrapped.LoadOrStore(r.Header.Get("X-Vault-Token"), true); before {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			fmt.Fprint(w, `{"auth": {"client_token": "inner"}}`)
		}
	}))
	defer srv.Close()
	token := filepath.Join(t.TempDir(), "token")
	assert.NilError(t, os.WriteFile(token, []byte("spent"), 0o600))
	r := newRig(t, "providers:\n  v: {type: vault, config: {address: '"+srv.URL+"', mount: kv, kv_version: 1}, auth: {params: {token_file: "+token+", wrapped: true}}}\n")
	r.run()
	before, err := r.resolver.Providers().Lookup("v")
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(token, []byte("new"), 0o600))
	_, err = before.Version(t.Context(), "x")
	assert.NilError(t, err)
	r.hup <- os.Interrupt
	var now provider.Provider
	r.until("another provider", func() bool {
		now, err = r.resolver.Providers().Lookup("v")
		return err == nil && now != before
	})
	_, err = now.Version(t.Context(), "x")
	assert.NilError(t, err)
}

// inUse makes a secret one that a container uses, and returns its version.
func (r *rig) inUse(path string) secret.Version {
	r.t.Helper()
	ref, err := secret.ParseRef("dso://" + path)
	assert.NilError(r.t, err)
	vs, err := r.watch.Desired(r.t.Context(), "", []secret.Ref{ref})
	assert.NilError(r.t, err)
	for _, v := range vs {
		return v
	}
	return ""
}

func TestSettings_AChangedFileOfAProviderAsksForAComparison(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	assert.NilError(t, os.WriteFile(path, []byte("one"), 0o600))
	r := newRig(t, "agent: {watch: {polling_interval: 24h}}\nproviders:\n"+files("a", dir))
	before := r.inUse("a/x")
	r.run()
	r.until("the watch stands", func() bool { return r.asked("a") > 1 })
	assert.NilError(t, os.WriteFile(path, []byte("two"), 0o600))
	<-r.watch.Changed()
	assert.Assert(t, r.inUse("a/x") != before)
}

// asked is how many versions a provider was asked for.
func (r *rig) asked(name string) uint64 {
	for _, st := range r.watch.Status() {
		if st.Name == name {
			return st.Calls.Version
		}
	}
	return 0
}

func TestSettings_ThePollingIntervalIsTaken(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "x"), []byte("one"), 0o600))
	r := newRig(t, "agent: {watch: {polling_interval: 24h}}\nproviders:\n"+files("a", dir))
	r.inUse("a/x")
	r.run()
	r.write("agent: {watch: {polling_interval: 1s}}\nproviders:\n"+files("a", dir), 0o600)
	<-r.watch.Changed() // the reload itself
	now := r.asked("a")
	r.until("it is polled", func() bool { return r.asked("a") > now+1 })
}

func TestSettings_HangupAsksTheStoresAgain(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "x"), []byte("one"), 0o600))
	r := newRig(t, "agent: {watch: {polling_interval: 24h}}\nproviders:\n"+files("a", dir))
	r.inUse("a/x")
	r.run()
	r.until("the watch stands", func() bool { return r.asked("a") > 1 })
	now := r.asked("a")
	r.hup <- os.Interrupt
	r.until("asked", func() bool { return r.asked("a") > now })
}

func TestSettings_TheLevelOfTheLogFollows(t *testing.T) {
	r := newRig(t, "logging: {level: warn}\n")
	r.run()
	assert.Equal(t, r.level.Level(), slog.LevelWarn)
	r.write("logging: {level: debug}\n", 0o600)
	r.until("debug", func() bool { return r.level.Level() == slog.LevelDebug })
}

func TestSettings_StatusTellsHowTheLastCallWent(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, "providers:\n"+files("a", dir)+files("b", filepath.Join(dir, "none")))
	rows := r.rows()
	assert.Equal(t, len(rows), 2)
	assert.Equal(t, rows[0].Message, "not asked yet")
	for _, name := range []string{"a", "b"} {
		p, err := r.resolver.Providers().Lookup(name)
		assert.NilError(t, err)
		_, err = p.Version(t.Context(), "missing")
		assert.ErrorContains(t, err, "provider "+name+": missing: ")
	}
	rows = r.rows()
	assert.Equal(t, rows[0].Status, "ok", "the store answered")
	assert.Equal(t, rows[0].Calls, wire.ProviderCalls{Version: 1})
	assert.Equal(t, rows[1].Status, "error")
	assert.Assert(t, strings.Contains(rows[1].Message, "open the directory"), rows[1].Message)
	assert.Equal(t, rows[1].Calls.Failed, rows[1].Calls.Version)
}

func (r *rig) rows() (rows []wire.ProviderStatus) {
	for _, st := range r.watch.Status() {
		if st.Name != secret.DefaultProvider {
			rows = append(rows, providerRow(st))
		}
	}
	return rows
}

func TestProviderRow_OfAnOpenCircuit(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	row := providerRow(watch.SourceStatus{
		Name: "v", Asked: since, Err: provider.Explain("v", "kv/x", provider.ErrCredential), Open: true, Since: since, Next: since.Add(time.Minute), Failed: 7,
		Secrets: 2, Shortest: time.Second, Longest: time.Minute, Budget: 60, Left: -3, Late: time.Hour,
	})
	assert.DeepEqual(t, row, wire.ProviderStatus{
		Name: "v", Status: "error", Message: "kv/x: " + provider.ErrCredential.Error(), Secrets: 2,
		Circuit:  wire.Circuit{State: "open", Failures: 7, Since: since, NextTry: since.Add(time.Minute)},
		Interval: &wire.PollInterval{Shortest: "1s", Longest: "1m0s"}, Budget: &wire.CallBudget{PerMinute: 60, Left: -3},
	})
}

// Every type and method of the configuration is made into a provider.
func TestBuild_MakesEveryTypeAndMethod(t *testing.T) {
	fp := provider.NewFingerprint([]byte("key"))
	for _, text := range []string{
		"{type: file, config: {dir: /x}}",
		"{type: env, config: {prefix: X_}}",
		"{type: exec, config: {program: /bin/true, env: {A: b}}}",
		"{type: http, config: {url: 'https://x/{path}', headers: {A: b}}}",
		"{type: aws, region: eu-central-1, config: {role_arn: 'arn:aws:iam::123456789012:role/dso'}}",
		"{type: aws, region: eu-central-1, config: {service: ssm}, auth: {method: static, params: {access_key_id: x, secret_access_key: y}}}",
		"{type: azure, config: {vault: 'https://x'}}",
		"{type: azure, config: {vault: 'https://x'}, auth: {method: managed_identity}}",
		"{type: azure, config: {vault: 'https://x'}, auth: {method: client_secret, params: {tenant_id: t, client_id: c, client_secret: s}}}",
		"{type: azure, config: {vault: 'https://x'}, auth: {method: workload_identity, params: {tenant_id: t, client_id: c, token_file: /x}}}",
		"{type: gcp, config: {project: x}}",
		"{type: gcp, region: europe-west3, config: {project: x}, auth: {method: credentials, params: {credentials: y}}}",
		"{type: vault, config: {address: 'https://x'}, auth: {params: {token: x}}}",
		"{type: vault, config: {address: 'https://x'}, auth: {method: approle, params: {role_id: x, secret_id: y}}}",
		"{type: vault, config: {address: 'https://x'}, auth: {method: jwt, params: {role: x, jwt: y}}}",
		"{type: vault, config: {address: 'https://x', mount: kv, kv_version: 2}, auth: {method: kubernetes, params: {role: x, jwt: y}}}",
	} {
		path := filepath.Join(t.TempDir(), "dso.yaml")
		assert.NilError(t, os.WriteFile(path, []byte("providers: {p: "+text+"}\n"), 0o600))
		c, err := config.Load(path)
		assert.NilError(t, err)
		_, err = build("p", c.Providers["p"], fp, memory{})
		assert.NilError(t, err, text)
	}
}

func TestBuild_SendsTheCredentialThatWasConfigured(t *testing.T) {
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header; fmt.Fprint(w, "v") }))
	defer srv.Close()
	for auth, want := range map[string][2]string{
		"{method: bearer, params: {token: x}}":                   {"Authorization", "Bearer x"},
		"{method: basic, params: {username: u, password: 'p:'}}": {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p:"))},
		"{method: header, params: {name: X-Key, value: x}}":      {"X-Key", "x"},
		"{method: none}": {"X-Tenant", "t"},
	} {
		path := filepath.Join(t.TempDir(), "dso.yaml")
		assert.NilError(t, os.WriteFile(path, []byte("providers: {p: {type: http, config: {url: '"+srv.URL+"/{path}', headers: {X-Tenant: t}}, auth: "+auth+"}}\n"), 0o600))
		c, err := config.Load(path)
		assert.NilError(t, err)
		p, err := build("p", c.Providers["p"], provider.NewFingerprint(nil), memory{})
		assert.NilError(t, err)
		_, _, err = p.Get(t.Context(), "x", "")
		assert.NilError(t, err)
		assert.Equal(t, got.Get(want[0]), want[1], auth)
	}
}

func TestFingerprintKey_StaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	now := time.Now()
	first, err := fingerprintKey(path, now)
	assert.NilError(t, err)
	second, err := fingerprintKey(path, now)
	assert.NilError(t, err)
	assert.DeepEqual(t, first, second)

	// A damaged one is set aside, and there is another copy.
	var corrupt *durable.CorruptError
	assert.NilError(t, os.WriteFile(path, []byte("short"), 0o600))
	second, err = fingerprintKey(path, now)
	assert.Assert(t, errors.As(err, &corrupt), "%v", err)
	assert.DeepEqual(t, first, second)

	// With both damaged it is another one, and stays that.
	assert.NilError(t, os.WriteFile(path, []byte("short"), 0o600))
	assert.NilError(t, os.WriteFile(path+".last", []byte("short"), 0o600))
	other, err := fingerprintKey(path, now)
	assert.Assert(t, errors.As(err, &corrupt), "%v", err)
	assert.Assert(t, len(other) == 32 && !bytes.Equal(other, first))
	second, err = fingerprintKey(path, now)
	assert.NilError(t, err)
	assert.DeepEqual(t, other, second)
}

// sealedValues stand in for the sealed ones.
type sealedValues map[secret.Version]secret.Value

func (s sealedValues) Get(_ secret.ID, v secret.Version) (secret.Value, error) {
	if value, ok := s[v]; ok {
		return value, nil
	}
	return secret.Value{}, provider.ErrNoVersion
}

// What a provider remembers lies in a file of root of its own name, and its values among
// the sealed ones; without either there is nothing, and no error.
func TestMemory_IsAFileAndTheSealedValues(t *testing.T) {
	s := &settings{leases: filepath.Join(t.TempDir(), "state", "leases"), sealed: sealedValues{"1": secret.NewValue([]byte("v"))}}
	m := s.memory("vault")
	assert.NilError(t, m.Save([]byte("leases")))
	text, err := s.memory("vault").Load()
	assert.NilError(t, err)
	assert.Equal(t, string(text), "leases")
	st, err := os.Stat(filepath.Join(s.leases, "vault.json"))
	assert.NilError(t, err)
	assert.Equal(t, st.Mode(), os.FileMode(0o600))
	value, err := m.Recall("database/creds/shop", "1")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal()), "v")

	none := (&settings{}).memory("vault")
	assert.NilError(t, none.Save([]byte("leases")))
	text, err = none.Load()
	assert.NilError(t, err)
	assert.Equal(t, len(text), 0)
	_, err = none.Recall("database/creds/shop", "1")
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}
