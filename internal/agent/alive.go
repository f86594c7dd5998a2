package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// aliveWithin is how long an agent may take to say that it lives: as long as the unit's
// WatchdogSec.
const aliveWithin = 30 * time.Second

// Alive returns when the locks of the agent's parts could be had: one that is never given
// back is how such a program hangs.
func (a *Agent) Alive() {
	a.settings.mode()
	a.journal.All()
	a.claims.held()
	a.events.After(0)
}

// CheckAlive asks the agent that serves a run directory whether it lives, and ends one that
// does not answer: an engine starts a container again that has ended, and not one that hangs.
func CheckAlive(ctx context.Context, runDir string) error {
	return checkAlive(ctx, filepath.Join(runDir, "dso.sock"), aliveWithin)
}

func checkAlive(ctx context.Context, socket string, within time.Duration) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ask the agent whether it lives: %w", err)
	}
	defer func() { _ = conn.Close() }()
	pid, err := listens(conn)
	if err != nil {
		return fmt.Errorf("ask the agent whether it lives: %w", err)
	}
	if err = conn.SetDeadline(time.Now().Add(within)); err == nil {
		err = askAlive(conn)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if pid <= 1 {
		return fmt.Errorf("the agent has said nothing for %s, and its socket is systemd's, which ends one that hangs", within)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the agent, process %d, which has said nothing for %s: %w", pid, within, err)
	}
	return fmt.Errorf("the agent, process %d, had said nothing for %s and was ended", pid, within)
}

// listens returns the process that listens at the other end.
func listens(conn net.Conn) (pid int, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

func askAlive(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET /v1/alive HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asked whether it lives, the agent said %s", resp.Status)
	}
	return nil
}
