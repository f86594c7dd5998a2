package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// busybox is an image with a shell, for what a scratch image cannot show.
const busybox = "busybox:test"

// shared is the lab of the tests that leave no trace in one: starting an engine
// for each would cost more than all that they do.
var shared struct {
	once sync.Once
	lab  *lab.Lab
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.lab != nil {
		if err := shared.lab.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the shared lab:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// host is a machine with the product on it, for the time of one test.
type host struct {
	*lab.Lab
	t *testing.T
}

// sharedHost returns the shared lab with a running agent and a vault, and no
// container. What the test does to the engine's settings it has to undo.
func sharedHost(t *testing.T) *host {
	t.Helper()
	shared.once.Do(func() {
		shared.lab, shared.err = lab.Open(context.Background(), repository(t))
		if shared.err == nil {
			shared.err = shared.lab.ImportBusybox(context.Background(), busybox)
		}
	})
	assert.NilError(t, shared.err)
	h := &host{shared.lab, t}
	if !h.AgentRuns() {
		h.startAgent()
	}
	h.dso("init")
	h.tellOnFailure()
	t.Cleanup(h.removeContainers)
	return h
}

// ownHost returns a lab of the test's own, with neither an agent nor a vault.
func ownHost(t *testing.T) *host {
	t.Helper()
	l, err := lab.Open(t.Context(), repository(t))
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, l.Close()) })
	assert.NilError(t, l.ImportBusybox(t.Context(), busybox))
	h := &host{l, t}
	h.tellOnFailure()
	return h
}

// in is the same host for a subtest.
func (h *host) in(t *testing.T) *host { return &host{h.Lab, t} }

// tellOnFailure shows what agent and engine logged since now, should the test
// fail.
func (h *host) tellOnFailure() {
	files := []string{h.AgentLog(), h.LogFile()}
	from := map[string]int64{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			from[file] = info.Size()
		}
	}
	h.t.Cleanup(func() {
		if !h.t.Failed() {
			return
		}
		for _, file := range files {
			text, _ := os.ReadFile(file)
			text = text[min(from[file], int64(len(text))):]
			h.t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-6000):])
		}
	})
}

func (h *host) removeContainers() {
	ctx := context.Background()
	ids, err := h.Docker(ctx, "ps", "-aq")
	assert.NilError(h.t, err)
	if ids != "" {
		_, err = h.Docker(ctx, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
		assert.NilError(h.t, err)
	}
}

// said is what a command wrote and exited with.
type said struct {
	out, err string
	code     int
}

// all is both streams, for what may be on either.
func (s said) all() string { return s.out + s.err }

// try runs a prepared command to its end.
func (h *host) try(cmd *exec.Cmd, stdin string) said {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		assert.NilError(h.t, err)
	}
	return said{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// tryDocker runs docker, which may fail.
func (h *host) tryDocker(args ...string) said {
	h.t.Helper()
	return h.try(h.Command(h.t.Context(), "docker", args...), "")
}

// docker runs docker, which must not fail, and returns its standard output
// without the space around it.
func (h *host) docker(args ...string) string {
	h.t.Helper()
	s := h.tryDocker(args...)
	assert.Equal(h.t, s.code, 0, "docker %s: %s", strings.Join(args, " "), s.all())
	return strings.TrimSpace(s.out)
}

// tryDSO runs docker dso in a directory, with a value on standard input.
func (h *host) tryDSO(dir, stdin string, args ...string) said {
	h.t.Helper()
	return h.try(h.CommandIn(h.t.Context(), dir, "docker", append([]string{"dso"}, args...)...), stdin)
}

// dso runs docker dso, which must not fail; that it found something to tell of is no
// failure.
func (h *host) dso(args ...string) string {
	h.t.Helper()
	s := h.tryDSO("/", "", args...)
	if s.code == lab.Unhealthy {
		s.code = 0
	}
	assert.Equal(h.t, s.code, 0, "docker dso %s: %s", strings.Join(args, " "), s.all())
	return s.out
}

// set stores a value and waits for nothing.
func (h *host) set(name, value string) {
	h.t.Helper()
	s := h.tryDSO("/", value, "secret", "set", name, "--no-wait")
	assert.Equal(h.t, s.code, 0, s.all())
}

// run starts a container with the runtime dso in the background.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	return h.docker(append([]string{"run", "-d", "--runtime", "dso", "--name", name}, args...)...)
}

// sleeper are the arguments of a container that has a shell and does nothing.
func sleeper(options ...string) []string {
	return append(options, "--stop-signal", "KILL", busybox, "sleep", "3600")
}

func (h *host) startAgent() {
	h.t.Helper()
	assert.NilError(h.t, h.StartAgent(h.t.Context()))
}

func (h *host) killAgent() {
	h.t.Helper()
	assert.NilError(h.t, h.KillAgent())
}

// reload merges settings over the engine's own for the rest of the test.
func (h *host) reload(settings map[string]any) {
	h.t.Helper()
	h.t.Cleanup(func() {
		// The engine needs a container's runtime as it was to kill it.
		h.removeContainers()
		assert.NilError(h.t, h.ReloadWith(context.Background(), nil))
	})
	assert.NilError(h.t, h.ReloadWith(h.t.Context(), settings))
}

// deadline makes starts wait for an agent no longer than that.
func (h *host) deadline(d string) {
	h.t.Helper()
	h.runtimeOption("--dso-deadline=" + d)
}

// runtimeOption gives dso-runtime an option for the rest of the test.
func (h *host) runtimeOption(option string) {
	h.t.Helper()
	h.reload(map[string]any{"runtimes": map[string]any{"dso": map[string]any{
		"path": filepath.Join(repository(h.t), "bin", "dso-runtime"), "runtimeArgs": []string{option},
	}}})
}

func (h *host) inspect(container, format string) string {
	h.t.Helper()
	return h.docker("inspect", "-f", format, container)
}

func (h *host) running(container string) bool {
	h.t.Helper()
	return h.inspect(container, "{{.State.Running}}") == "true"
}

// environ is the environment of the container's first process, as the kernel
// knows it.
func (h *host) environ(container string) map[string]string {
	h.t.Helper()
	var data []byte
	// For a moment after a start, the process is still runc on its way to become
	// the container's.
	lab.Eventually(h.t, container+" runs its program", func() bool {
		var err error
		data, err = os.ReadFile("/proc/" + h.inspect(container, "{{.State.Pid}}") + "/environ")
		return err == nil && len(data) > 0 && !bytes.Contains(data, []byte("_LIBCONTAINER_"))
	})
	env := map[string]string{}
	for kv := range strings.SplitSeq(strings.TrimSuffix(string(data), "\x00"), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

// exec runs a command in the container and returns its standard output as it is.
func (h *host) exec(container string, command ...string) string {
	h.t.Helper()
	s := h.tryDocker(append([]string{"exec", container}, command...)...)
	assert.Equal(h.t, s.code, 0, "exec in %s: %q: %s", container, command, s.all())
	return s.out
}

// sh runs a line of shell in the container.
func (h *host) sh(container, line string) string {
	h.t.Helper()
	return h.exec(container, "sh", "-c", line)
}

// health waits for the container to be healthy.
func (h *host) health(container string) {
	h.t.Helper()
	healthy(h.t, h.Engine, container)
}

// privateFiles lists what lies on the private tmpfs, below its directories.
func (h *host) privateFiles() []string {
	h.t.Helper()
	root := h.HostPath("/run/dso/private")
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it goes while we look
		}
		rel, _ := filepath.Rel(root, path)
		if err == nil && strings.Contains(rel, "/") {
			found = append(found, rel)
		}
		return err
	})
	assert.NilError(h.t, err)
	return found
}
