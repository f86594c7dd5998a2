package engine

import (
	"os/exec"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// process starts a shell under another name, with a child of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "sleep 300 & echo ready; wait")
	cmd.Args = append(args, cmd.Args[1:]...)
	// A shell takes its name from the first argument, and "-c" must follow.
	cmd.Args = append([]string{args[0]}, append(cmd.Args[len(args):], args[1:]...)...)
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = out.Read(make([]byte, 6))
	assert.NilError(t, err)
	return cmd
}

func TestEndShims_EndsTheContainersShimWithItsChildrenAndNoOther(t *testing.T) {
	id, other := strings.Repeat("0f", 32), strings.Repeat("f0", 32)
	shim := process(t, "/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", id, "-address", "x")
	spared := []*exec.Cmd{
		process(t, "/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", other),
		process(t, "runc", "-id", id),
	}
	below := descendants("/proc", shim.Process.Pid)
	assert.Equal(t, len(below), 1)

	assert.NilError(t, endShims("/proc", id))
	assert.ErrorContains(t, shim.Wait(), "killed")
	for _, p := range spared {
		assert.Equal(t, len(descendants("/proc", p.Process.Pid)), 1, "still there, with its child")
	}
	assert.NilError(t, endShims("/proc", id), "none is left")
}
