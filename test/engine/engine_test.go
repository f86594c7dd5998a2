package testengine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	testengine "github.com/docker-secret-operator/dso/test/engine"
)

func start(t *testing.T, opts testengine.Options) *testengine.Engine {
	t.Helper()
	begin := time.Now()
	e, err := testengine.Start(t.Context(), opts)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, e.Close()) })
	t.Logf("%s up in %s, storage driver %s", e.Name(), time.Since(begin).Round(time.Millisecond), e.StorageDriver())
	return e
}

func docker(t *testing.T, e *testengine.Engine, args ...string) string {
	t.Helper()
	out, err := e.Docker(t.Context(), args...)
	assert.NilError(t, err)
	return out
}

// eventually asks until the answer is want, for at most 20 seconds.
func eventually(t *testing.T, want string, ask func() string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got := ask()
		if strings.TrimSpace(got) == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// answerer is the test's web application, and its client: busybox has one that
// dies of the C library's resolver when it is linked statically.
var answerer string

func TestMain(m *testing.M) {
	if os.Getenv("TESTENGINE_ABANDON") != "" {
		abandon()
	}
	dir, err := os.MkdirTemp("", "answerer-")
	if err != nil {
		panic(err)
	}
	answerer = filepath.Join(dir, "answerer")
	build := exec.Command("go", "build", "-o", answerer, "../cmd/answerer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// abandon is an owner of an engine that is killed before it can close it.
func abandon() {
	e, err := testengine.Start(context.Background(), testengine.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(e.Name())
	select {}
}

func TestStart_RemovesTheEngineOfAnOwnerThatWasKilled(t *testing.T) {
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), "TESTENGINE_ABANDON=1")
	out, err := owner.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, owner.Start())
	name, err := bufio.NewReader(out).ReadString('\n')
	assert.NilError(t, err)
	name = strings.TrimSpace(name)
	assert.NilError(t, owner.Process.Kill())
	assert.ErrorContains(t, owner.Wait(), "killed")
	assert.Assert(t, len(leftovers(t, name)) > 0)

	start(t, testengine.Options{})
	assert.DeepEqual(t, leftovers(t, name), []string(nil))
}

func fromClient(t *testing.T, e *testengine.Engine, url string) func() string {
	return func() string {
		out, err := e.ClientCommand(t.Context(), answerer, "get", url).Output()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
}

// web runs a container of an imported busybox image that publishes port 8080
// and answers hello there.
func web(t *testing.T, e *testengine.Engine, args ...string) string {
	t.Helper()
	assert.NilError(t, e.ImportBusybox(t.Context(), "busybox:test"))
	// httpd as the first process ignores TERM for ten seconds.
	run := append([]string{"run", "-d", "--name", "web", "-p", "8080:80", "--stop-signal", "KILL"}, args...)
	return docker(t, e, append(run, "busybox:test",
		"sh", "-c", "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www")...)
}

func TestEngine_StartsStopsAndLeavesNothing(t *testing.T) {
	before := hostState()
	e := start(t, testengine.Options{})
	web(t, e)
	eventually(t, "hello", fromClient(t, e, "http://"+e.Address()+":8080/"))
	docker(t, e, "exec", "--user", "app", "web", "sh", "-c", "test $(id -u) = 1000 && touch /tmp/x")

	begin := time.Now()
	assert.NilError(t, e.Close())
	t.Logf("closed in %s", time.Since(begin).Round(time.Millisecond))
	assert.NilError(t, e.Close(), "a second Close is fine")

	assert.DeepEqual(t, hostState(), before)
	assert.DeepEqual(t, leftovers(t, e.Name()), []string(nil))
}

// hostState is what an engine uses inside and must not make on the machine.
func hostState() map[string]bool {
	state := map[string]bool{}
	for _, path := range []string{"/etc/dso", "/var/lib/dso", "/run/dso"} {
		_, err := os.Stat(path)
		state[path] = err == nil
	}
	return state
}

// leftovers are the traces of an engine on this machine.
func leftovers(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{
		"/run/netns/dso?-" + strings.TrimPrefix(name, "dsot-"),
		"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name,
		filepath.Join(os.TempDir(), name),
	} {
		paths, err := filepath.Glob(pattern)
		assert.NilError(t, err)
		found = append(found, paths...)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	assert.NilError(t, err)
	mounts, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	assert.NilError(t, err)
	for _, file := range append(files, mounts...) {
		content, _ := os.ReadFile(file)
		if strings.Contains(string(content), name) {
			found = append(found, file+": "+string(content))
		}
	}
	return found
}

func TestEngine_TwoDoNotDisturbEachOther(t *testing.T) {
	a, b := start(t, testengine.Options{}), start(t, testengine.Options{})
	web(t, a)
	eventually(t, "hello", fromClient(t, a, "http://"+a.Address()+":8080/"))
	assert.Equal(t, docker(t, b, "ps", "-aq"), "")
	assert.NilError(t, b.Close())
	eventually(t, "hello", fromClient(t, a, "http://"+a.Address()+":8080/"))
}

func TestEngine_CommandsSeePrivatePaths(t *testing.T) {
	e := start(t, testengine.Options{})
	_, err := e.Run(t.Context(), "sh", "-c", "echo private > /etc/dso/x && echo private > /var/lib/dso/x && echo private > /run/dso/x")
	assert.NilError(t, err)
	for _, path := range []string{"/etc/dso/x", "/var/lib/dso/x", "/run/dso/x"} {
		content, err := os.ReadFile(e.HostPath(path))
		assert.NilError(t, err)
		assert.Equal(t, string(content), "private\n")
		_, err = os.Stat(path)
		assert.Assert(t, os.IsNotExist(err), "%s is on the machine", path)
	}
	dir := t.TempDir()
	out, err := e.CommandIn(t.Context(), dir, "sh", "-c", "pwd; echo $HOME; uname -n").Output()
	assert.NilError(t, err)
	assert.Equal(t, string(out), dir+"\n"+e.Dir()+"/home\n"+e.Name()+"\n")
}

func TestEngine_KilledDaemonComesBackInTheSamePlace(t *testing.T) {
	e := start(t, testengine.Options{})
	web(t, e, "--restart", "always")
	pid := docker(t, e, "inspect", "-f", "{{.State.Pid}}", "web")
	assert.NilError(t, e.Kill())
	assert.Assert(t, !e.Running())
	_, err := os.Stat("/proc/" + pid)
	assert.NilError(t, err, "the container goes on without the daemon")
	assert.ErrorContains(t, e.Kill(), "not running")

	assert.NilError(t, e.StartDaemon(t.Context()))
	eventually(t, "hello", fromClient(t, e, "http://"+e.Address()+":8080/"))

	assert.NilError(t, e.Stop())
	assert.NilError(t, e.StartDaemon(t.Context()))
	eventually(t, "hello", fromClient(t, e, "http://"+e.Address()+":8080/"))
}

func TestEngine_ReloadRegistersARuntime(t *testing.T) {
	e := start(t, testengine.Options{})
	runc, err := e.Run(t.Context(), "sh", "-c", "command -v runc")
	assert.NilError(t, err)
	runtime := map[string]any{"other": map[string]any{"path": strings.TrimSpace(runc)}}
	assert.NilError(t, e.ReloadWith(t.Context(), map[string]any{"runtimes": runtime, "default-runtime": "other"}))
	assert.Equal(t, docker(t, e, "info", "-f", "{{.DefaultRuntime}}"), "other")
	web(t, e)
	assert.Equal(t, docker(t, e, "inspect", "-f", "{{.HostConfig.Runtime}}", "web"), "other")
}

func TestEngine_FailedStartLeavesNothing(t *testing.T) {
	before, err := filepath.Glob(filepath.Join(os.TempDir(), "dsot-*"))
	assert.NilError(t, err)
	_, err = testengine.Start(t.Context(), testengine.Options{Daemon: map[string]any{"no-such-setting": true}})
	assert.ErrorContains(t, err, "no-such-setting")
	after, err := filepath.Glob(filepath.Join(os.TempDir(), "dsot-*"))
	assert.NilError(t, err)
	assert.DeepEqual(t, after, before)
}

func TestEngine_StartHonoursItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := testengine.Start(ctx, testengine.Options{})
	assert.ErrorIs(t, err, context.Canceled)
}

func TestEngine_ContainersResolveEachOtherByName(t *testing.T) {
	e := start(t, testengine.Options{})
	docker(t, e, "network", "create", "app")
	web(t, e, "--network", "app", "--network-alias", "www")
	assert.NilError(t, e.ImportStatic(t.Context(), "answerer:test", answerer, "USER 1000"))
	eventually(t, "hello", func() string {
		out, err := e.Docker(t.Context(), "run", "--rm", "--network", "app", "answerer:test", "get", "http://www/")
		if err != nil {
			return err.Error()
		}
		return out
	})
}

func TestImportStatic_AppliesChanges(t *testing.T) {
	e := start(t, testengine.Options{})
	binary := filepath.Join(t.TempDir(), "program")
	assert.NilError(t, os.WriteFile(binary, []byte("not run"), 0o755))
	assert.NilError(t, e.ImportStatic(t.Context(), "app:1", binary,
		"EXPOSE 8080", "USER 1000", `HEALTHCHECK --interval=1s CMD ["/program", "healthcheck"]`))
	var image struct {
		Config struct {
			Entrypoint  []string
			User        string
			Healthcheck struct{ Test []string }
		}
	}
	assert.NilError(t, json.Unmarshal([]byte(docker(t, e, "image", "inspect", "-f", "{{json .}}", "app:1")), &image))
	assert.DeepEqual(t, image.Config.Entrypoint, []string{"/program"})
	assert.Equal(t, image.Config.User, "1000")
	assert.DeepEqual(t, image.Config.Healthcheck.Test, []string{"CMD", "/program", "healthcheck"})

	assert.ErrorContains(t, e.ImportStatic(t.Context(), "app:2", binary, "NONSENSE"), "NONSENSE")
}
