package agent

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
)

// silentSocket is in the environment of a process that listens there and says nothing.
const silentSocket = "DSO_TEST_SILENT_SOCKET"

// beSilent is what such a process does, until its standard input ends.
func beSilent(socket string) {
	if _, err := net.Listen("unix", socket); err != nil {
		panic(err)
	}
	fmt.Println("listens")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestCheckAlive_EndsTheProcessThatSaysNothing(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "dso.sock")
	cmd, _, line := hosttest.Child(t, silentSocket+"="+socket)
	assert.Equal(t, line, "listens\n")
	assert.ErrorContains(t, checkAlive(t.Context(), socket, 10*time.Millisecond), "was ended")
	_ = cmd.Wait()
	assert.Equal(t, cmd.ProcessState.String(), "signal: killed")
	assert.ErrorContains(t, checkAlive(t.Context(), socket, time.Minute), "connection refused", "who has ended is not asked twice")
}

func TestCheckAlive_LeavesOneThatAnswers(t *testing.T) {
	for answer, says := range map[string]string{"HTTP/1.0 200 OK\r\n\r\n": "", "HTTP/1.0 500 No\r\n\r\n": "the agent said 500 No"} {
		socket := filepath.Join(t.TempDir(), "dso.sock")
		l, err := net.Listen("unix", socket)
		assert.NilError(t, err)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, _ = conn.Read(make([]byte, 64))
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		}()
		if err := checkAlive(t.Context(), socket, time.Minute); says != "" {
			assert.ErrorContains(t, err, says)
		} else {
			assert.NilError(t, err)
		}
		assert.NilError(t, l.Close())
	}
}
