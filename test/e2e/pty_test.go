package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// pty is a command on a terminal of its own.
type pty struct {
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	text strings.Builder // all that the terminal showed
	done chan struct{}
}

// onTerminal starts a command on a new terminal.
func onTerminal(t *testing.T, cmd *exec.Cmd) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	assert.NilError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	assert.NilError(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	assert.NilError(t, err)
	defer func() { _ = slave.Close() }()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p := &pty{master: master, cmd: cmd, done: make(chan struct{})}
	assert.NilError(t, cmd.Start())
	go p.read()
	return p
}

// read collects until nothing has the terminal open any more.
func (p *pty) read() {
	defer close(p.done)
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.text.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *pty) shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// answer waits for a question and types a line, once the echo is off.
func (p *pty) answer(t *testing.T, question, line string) {
	t.Helper()
	lab.Eventually(t, "the terminal asks "+question, func() bool {
		state, err := unix.IoctlGetTermios(int(p.master.Fd()), unix.TCGETS)
		return err == nil && state.Lflag&unix.ECHO == 0 && strings.Contains(p.shown(), question)
	})
	_, err := p.master.WriteString(line + "\r")
	assert.NilError(t, err)
}

// end waits for the command and returns its exit code.
func (p *pty) end(t *testing.T) int {
	t.Helper()
	_ = p.cmd.Wait()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}
