package exec_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/exec"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// storeVariable makes this test's own binary the program: it serves the directory.
const storeVariable = "DSO_TEST_STORE"

// hostVariable makes this test's own binary an agent that waits for a program.
const hostVariable = "DSO_TEST_HOST"

func TestMain(m *testing.M) {
	if program := os.Getenv(hostVariable); program != "" {
		p, err := exec.New("own", exec.Config{Program: program, Timeout: time.Hour, Env: func() ([]string, error) { return nil, nil }})
		if err == nil {
			_, err = p.Version(context.Background(), "x")
		}
		panic(err)
	}
	if dir := os.Getenv(storeVariable); dir != "" {
		program(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type line struct {
	ID       int64          `json:"id"`
	Method   string         `json:"method,omitempty"`
	Protocol int            `json:"protocol,omitempty"`
	Path     string         `json:"path,omitempty"`
	Version  string         `json:"version,omitempty"`
	Value    *[]byte        `json:"value,omitempty"`
	Error    map[string]any `json:"error,omitempty"`
}

// program answers from a directory: PATH/VERSION holds a value, PATH/current the
// current version, and the file fault says how to misbehave.
func program(dir string) {
	fmt.Fprintln(os.Stderr, providertest.Canary)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	fmt.Println(`{"event":"of another protocol"}`)
	for in.Scan() {
		var q line
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			os.Exit(3)
		}
		a := line{ID: q.ID, Protocol: q.Protocol}
		if q.Method != "hello" {
			a = respond(dir, q)
		}
		text, _ := json.Marshal(a)
		fmt.Printf("%s\n", text)
	}
}

func fault(dir string) providertest.Fault {
	text, _ := os.ReadFile(filepath.Join(dir, "fault"))
	return providertest.Fault(text)
}

func respond(dir string, q line) line {
	failed := func(code string) line {
		return line{ID: q.ID, Error: map[string]any{"code": code, "message": providertest.Canary, "retry_after": providertest.ThrottleFor.Seconds()}}
	}
	switch fault(dir) {
	case providertest.Denied:
		return failed("denied")
	case providertest.Expired:
		return failed("credential")
	case providertest.Throttled:
		return failed("throttled")
	case providertest.Unavailable:
		return failed("unavailable")
	case providertest.Slow:
		for fault(dir) == providertest.Slow {
			<-time.After(5 * time.Millisecond)
		}
	case providertest.Truncated:
		fmt.Printf(`{"id":%d,"value":"%s`, q.ID, providertest.Canary)
		os.Exit(0)
	case providertest.Malformed:
		fmt.Printf("{\"id\":%d,\"value\":%s}\n", q.ID, providertest.Canary)
	case providertest.Foreign:
		fmt.Println("<html>" + providertest.Canary)
	case providertest.Empty:
		fmt.Println()
	case providertest.Endless:
		chunk := bytes.Repeat([]byte(providertest.Canary), 4096)
		for {
			if _, err := os.Stdout.Write(chunk); err != nil {
				os.Exit(1)
			}
		}
	case providertest.Refused:
		os.Exit(7)
	}
	current, err := os.ReadFile(filepath.Join(dir, q.Path, "current"))
	if err != nil {
		return failed("not_found")
	}
	v := q.Version
	if v == "" {
		v = string(current)
	}
	a := line{ID: q.ID, Version: v}
	if q.Method == "get" {
		value, err := os.ReadFile(filepath.Join(dir, q.Path, filepath.Base(v)))
		if err != nil || v == "current" {
			return failed("no_version")
		}
		a.Value = &value
	}
	return a
}

func put(t *testing.T, dir string) providertest.Put {
	n := 0
	return func(path string, value []byte) secret.Version {
		n++
		v := strconv.Itoa(n)
		full := filepath.Join(dir, path)
		assert.NilError(t, os.MkdirAll(full, 0o700))
		assert.NilError(t, os.WriteFile(filepath.Join(full, v), value, 0o600))
		assert.NilError(t, os.WriteFile(filepath.Join(full, ".new"), []byte(v), 0o600))
		assert.NilError(t, os.Rename(filepath.Join(full, ".new"), filepath.Join(full, "current")))
		return secret.Version(v)
	}
}

func open(t *testing.T, dir string, edit func(*exec.Config)) *exec.Provider {
	t.Helper()
	self, err := os.Executable()
	assert.NilError(t, err)
	cfg := exec.Config{
		Program: self, Timeout: 20 * time.Second,
		Env: func() ([]string, error) { return []string{storeVariable + "=" + dir, "GORACE=atexit_sleep_ms=0"}, nil },
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := exec.New("own", cfg)
	assert.NilError(t, err)
	t.Cleanup(p.Close)
	return p
}

func TestProvider_KeepsTheContract(t *testing.T) {
	providertest.Run(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		return open(t, dir, nil), put(t, dir)
	})
}

func TestProvider_StandsAProgramThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		dir := t.TempDir()
		return providertest.Store{
			Provider: open(t, dir, nil), Put: put(t, dir),
			Inject: func(f providertest.Fault) bool {
				assert.NilError(t, os.WriteFile(filepath.Join(dir, "fault"), []byte(f), 0o600))
				return true
			},
		}
	}, providertest.Options{}, providertest.OfHTTP...)
}

// example builds the example of the documentation.
func example(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "example-provider")
	out, err := osexec.CommandContext(t.Context(), "go", "build", "-o", program, "../../../docs/reference/example-provider").CombinedOutput()
	assert.NilError(t, err, "%s", out)
	return program
}

// replace puts a file of that age in the place of the one before.
func replace(t *testing.T, full string, value []byte, written time.Time) {
	assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o700))
	assert.NilError(t, os.WriteFile(full+".new", value, 0o600))
	assert.NilError(t, os.Chtimes(full+".new", written, written))
	assert.NilError(t, os.Rename(full+".new", full))
}

func openExample(t *testing.T, program, dir string) *exec.Provider {
	return open(t, dir, func(c *exec.Config) {
		c.Program = program
		c.Env = func() ([]string, error) { return []string{"EXAMPLE_DIR=" + dir}, nil }
	})
}

func TestExample_IsAProvider(t *testing.T) {
	program := example(t)
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		p := openExample(t, program, dir)
		written := time.Now()
		return p, func(path string, value []byte) secret.Version {
			written = written.Add(time.Second) // an inode may come again, the clock does not
			replace(t, filepath.Join(dir, path), value, written)
			v, err := p.Version(t.Context(), path)
			assert.NilError(t, err)
			return v
		}
	}, providertest.Options{NoHistory: true})
}

func TestExample_TellsReplacementsWithinOneTickOfTheClockApart(t *testing.T) {
	dir := t.TempDir()
	p := openExample(t, example(t), dir)
	tick := time.Now()
	var before secret.Version
	for _, value := range []string{"a", "b", "a", "b"} {
		replace(t, filepath.Join(dir, "x"), []byte(value), tick)
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Assert(t, v != before)
		before = v
	}
}

// script writes a program of a few lines.
func script(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "program")
	assert.NilError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o600))
	assert.NilError(t, os.Chmod(path, 0o700))
	return path
}

func TestProgram_SeesOnlyTheListedVariables(t *testing.T) {
	t.Setenv("DSO_TEST_HIDDEN", "x")
	out := filepath.Join(t.TempDir(), "env")
	program := script(t, "/usr/bin/env > "+out+"\nread line\necho '{\"id\":1,\"protocol\":1}'\nread line\necho '{\"id\":2,\"version\":\"1\"}'\n")
	for env, want := range map[string]string{"": "", "LISTED=y": "LISTED=y\n"} {
		p := open(t, t.TempDir(), func(c *exec.Config) {
			c.Program = program
			c.Env = func() ([]string, error) { return strings.Fields(env), nil }
		})
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		got, err := os.ReadFile(out)
		assert.NilError(t, err)
		for kv := range strings.Lines(string(got)) {
			name, _, _ := strings.Cut(kv, "=")
			assert.Assert(t, kv == want || name == "PWD" || name == "_" || name == "SHLVL" || name == "OLDPWD", "%s", kv) // the shell's own
		}
		assert.Assert(t, strings.Contains(string(got), want))
	}
}

// An empty secret is one that the program says is empty.
func TestProgram_AnAnswerWithoutAValueIsNoEmptySecret(t *testing.T) {
	for value, want := range map[string]error{``: provider.ErrMalformed, `,"value":null`: provider.ErrMalformed, `,"value":""`: nil, `,"value":"","note":"\377"`: provider.ErrMalformed} {
		program := script(t, "read line\necho '{\"id\":1,\"protocol\":1}'\nread line\nprintf '{\"id\":2,\"version\":\"1\""+value+"}\\n'\n")
		p := open(t, t.TempDir(), func(c *exec.Config) { c.Program = program })
		_, _, err := p.Get(t.Context(), "x", "")
		assert.ErrorIs(t, err, want, value)
	}
}

func TestProgram_IsPinnedByItsHash(t *testing.T) {
	program := script(t, "exit 1\n")
	text, err := os.ReadFile(program)
	assert.NilError(t, err)
	sum := sha256.Sum256(text)
	cfg := exec.Config{Program: program, SHA256: hex.EncodeToString(sum[:]), Timeout: time.Second, Env: func() ([]string, error) { return nil, nil }}
	p, err := exec.New("own", cfg)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(program, append(text, '#'), 0o700))
	_, err = p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "not the one that is pinned")
	_, err = exec.New("own", cfg)
	assert.ErrorContains(t, err, "provider own: "+program)
}

func TestProgram_ThatOthersCanChangeIsRefused(t *testing.T) {
	program := script(t, "")
	for mode, want := range map[os.FileMode]string{0o600: "chmod +x " + program, 0o722: "chmod go-w " + program, 0o770: "chmod go-w " + program} {
		assert.NilError(t, os.Chmod(program, mode))
		_, err := exec.New("own", exec.Config{Program: program})
		assert.ErrorContains(t, err, want)
	}
	_, err := exec.New("own", exec.Config{Program: filepath.Dir(program)})
	assert.ErrorContains(t, err, "is not a file")
}

func TestProgram_ThatSpeaksAnotherProtocolIsRefused(t *testing.T) {
	p := open(t, "", func(c *exec.Config) {
		c.Program = script(t, "read line\necho '{\"id\":1,\"protocol\":2}'\nread line\n")
	})
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "speaks protocol 2")
}

func TestProgram_ThatKeepsEndingIsStartedLessOften(t *testing.T) {
	starts := filepath.Join(t.TempDir(), "starts")
	p := open(t, "", func(c *exec.Config) { c.Program = script(t, "echo x >> "+starts+"\nexit 1\n") })
	var err error
	for range 10 {
		_, err = p.Version(t.Context(), "x")
		assert.Assert(t, provider.Retryable(err))
	}
	assert.ErrorContains(t, err, "the program keeps ending, and is started again in 1s: the program ended: exit status 1")
	assert.Assert(t, !strings.Contains(err.Error(), "the store"), "the store is not to blame: %v", err)
	assert.Equal(t, provider.RetryAfter(err), time.Second)
	text, err := os.ReadFile(starts)
	assert.NilError(t, err)
	assert.Equal(t, string(text), strings.Repeat("x\n", 4))
}

func TestProgram_ThatDoesNotAnswerIsKilledWithItsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := open(t, "", func(c *exec.Config) {
		c.Program = script(t, "read line\necho '{\"id\":1,\"protocol\":1}'\nsleep 1000 &\necho $! > "+pidFile+"\nwait\n")
		c.Timeout = 300 * time.Millisecond
	})
	_, err := p.Version(t.Context(), "x")
	assert.ErrorContains(t, err, "unanswered for 300ms")
	assert.Assert(t, provider.Retryable(err))
	pid, err := os.ReadFile(pidFile)
	assert.NilError(t, err)
	ends(t, string(pid))
}

// ends waits until a process has: a signal takes the moment until the kernel has a
// processor for whom it kills.
func ends(t *testing.T, pid string) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return poll.Success()
		}
		return poll.Continue("the program lives: %s", stat)
	}, poll.WithDelay(5*time.Millisecond))
}

// A program that does not read its input ends with the agent too, however that ends.
func TestProgram_ThatStallsEndsWithTheAgent(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	agent := osexec.Command(os.Args[0])
	agent.Env = append(os.Environ(), hostVariable+"="+script(t, "read line\necho '{\"id\":1,\"protocol\":1}'\necho $$ > "+pidFile+".new\nmv "+pidFile+".new "+pidFile+"\nexec sleep 1000\n"))
	assert.NilError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	var pid []byte
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		var err error
		if pid, err = os.ReadFile(pidFile); err != nil {
			return poll.Continue("it is not started: %v", err)
		}
		return poll.Success()
	}, poll.WithDelay(5*time.Millisecond))
	assert.NilError(t, agent.Process.Kill())
	ends(t, string(pid))
}

func TestClose_EndsTheProgram(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, nil)
	put(t, dir)("x", []byte("v"))
	_, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	p.Close()
	_, err = p.Version(t.Context(), "x")
	assert.ErrorContains(t, err, "no longer configured")
}

// A program tells by a line of its own; one that does not goes on as ever.
func TestWatch_TellsWhatTheProgramTells(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, func(c *exec.Config) {
		c.Program = script(t, "read line\ncase $line in *'\"watch\":true'*) ;; *) exit 1;; esac\n"+
			"echo '{\"id\":1,\"protocol\":1}'\necho '{\"event\":\"changed\"}'\nread line\necho '{\"id\":2,\"version\":\"1\"}'\n"+
			"read line\necho '{\"event\":\"changed\",\"new\":1}'\necho '{\"id\":3,\"version\":\"2\"}'\nread line\n")
	})
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := p.Watch(ctx)
	assert.NilError(t, err)
	for _, want := range []secret.Version{"1", "2"} {
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Equal(t, v, want)
		_, open := <-changed
		assert.Assert(t, open)
	}
	cancel()
	_, open := <-changed
	assert.Assert(t, !open)
}
