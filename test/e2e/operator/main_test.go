// Package operator compares what the operator is shown with what the engine and the
// files say, and damages hosts in each way that doctor claims to see.
package operator

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

const root = "../../.."

// host is a machine of the test's own, with an agent and a vault.
type host struct {
	*lab.Lab
	t *testing.T
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := filepath.Abs(root)
	assert.NilError(t, err)
	l, err := lab.Open(t.Context(), dir)
	assert.NilError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(l.AgentLog())
			t.Logf("agent:\n%s", text[max(0, len(text)-6000):])
		}
		assert.NilError(t, l.Close())
	})
	h := &host{l, t}
	assert.NilError(t, l.StartAgent(t.Context()))
	h.dso("init")
	return h
}

type said struct {
	out, err string
	code     int
}

// try runs docker dso in a directory, with a value on standard input.
func (h *host) try(dir, stdin string, args ...string) said {
	h.t.Helper()
	return h.run(h.CommandIn(h.t.Context(), dir, "docker", append([]string{"dso"}, args...)...), stdin)
}

func (h *host) run(cmd *exec.Cmd, stdin string) said {
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

// dso runs docker dso, which must not fail; that it found something to tell of is no
// failure.
func (h *host) dso(args ...string) string {
	h.t.Helper()
	s := h.try("/", "", args...)
	assert.Assert(h.t, s.code == 0 || s.code == lab.Unhealthy, "docker dso %s: %s%s", strings.Join(args, " "), s.out, s.err)
	return s.out
}

func (h *host) set(name, value string) {
	h.t.Helper()
	s := h.try("/", value, "secret", "set", name)
	assert.Equal(h.t, s.code, 0, s.out+s.err)
}

func (h *host) docker(args ...string) string {
	h.t.Helper()
	out, err := h.Docker(context.WithoutCancel(h.t.Context()), args...)
	assert.NilError(h.t, err)
	return out
}

// sh runs a line of shell on the host.
func (h *host) sh(line string) string {
	h.t.Helper()
	s := h.run(h.Command(h.t.Context(), "sh", "-c", line), "")
	assert.Equal(h.t, s.code, 0, line+": "+s.out+s.err)
	return strings.TrimSpace(s.out)
}

func (h *host) write(path, text string) {
	h.t.Helper()
	assert.NilError(h.t, os.MkdirAll(filepath.Dir(h.HostPath(path)), 0o755))
	assert.NilError(h.t, os.WriteFile(h.HostPath(path), []byte(text), 0o600))
}

// configure starts an agent with another configuration; an empty text means version: 1.
func (h *host) configure(text string) {
	h.t.Helper()
	assert.NilError(h.t, h.KillAgent())
	h.write("/etc/dso/dso.yaml", "version: 1\n"+text)
	assert.NilError(h.t, h.StartAgent(h.t.Context()))
}

// up brings a project up that has a secret "marker" of the value v1.
func (h *host) up(name, compose string) (dir string) {
	h.t.Helper()
	dir, err := h.Project(name, compose)
	assert.NilError(h.t, err)
	h.set(name+"/marker", "v1")
	s := h.try(dir, "", "up", "-d", "--wait")
	assert.Equal(h.t, s.code, 0, s.out+s.err)
	return dir
}
