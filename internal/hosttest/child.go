package hosttest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"gotest.tools/v3/assert"
)

// Child starts the test's own binary again with an addition to its environment,
// which its TestMain looks for, and returns it with its standard input and the first
// line that it printed. It is killed when the test ends.
func Child(t *testing.T, env string) (cmd *exec.Cmd, in io.Closer, line string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	in, err := cmd.StdinPipe()
	assert.NilError(t, err)
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	assert.NilError(t, err)
	return cmd, in, line
}
