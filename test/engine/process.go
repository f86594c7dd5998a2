package testengine

import (
	"os/exec"
	"syscall"
)

// process is a child that is always waited for, so that it can be asked
// whether it ended and never remains as a zombie.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startProcess starts cmd in a process group of its own: a Ctrl-C on the
// terminal must reach the test, which then closes the engine in order.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_, _ = cmd.Process.Wait()
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// running is false for a nil process: one that was never started.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// kill ends the process and waits for it; fine when it ended before.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.signal(syscall.SIGKILL)
	<-p.done
}
