package testengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	waitDelay    = 5 * time.Second
	pollInterval = 10 * time.Millisecond
)

var errDaemonDown = errors.New("the daemon is not running")

// StartDaemon starts the daemon in the engine's namespaces and returns when its
// API answers. The containers that the restart policies want are then started.
func (e *Engine) StartDaemon(ctx context.Context) error {
	if e.daemon.running() {
		return fmt.Errorf("start daemon %s: it is running", e.name)
	}
	log, err := os.OpenFile(e.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer func() { _ = log.Close() }()
	// A killed daemon leaves pid files. It takes a zombie or a recycled pid for a
	// living containerd and waits for that in vain.
	for _, file := range slices.Concat(containerdPIDFiles, []string{"dockerd.pid"}) {
		_ = os.Remove(filepath.Join(e.dir, file))
	}
	// The daemon outlives ctx, which bounds the start only.
	cmd := e.Command(context.WithoutCancel(ctx), e.dockerd(),
		"--data-root", filepath.Join(e.dir, "data"),
		"--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "dockerd.pid"),
		"--config-file", e.DaemonConfigFile(),
		"--storage-driver", e.driver,
		"--host", "unix://"+e.Socket(),
		"--host", "unix:///run/docker.sock")
	cmd.Stdout, cmd.Stderr = log, log
	if e.daemon, err = startProcess(cmd); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	return e.waitReady(ctx)
}

func (e *Engine) dockerd() string {
	if e.opts.Dockerd != "" {
		return e.opts.Dockerd
	}
	return "dockerd"
}

// waitReady polls until the API answers, the daemon ended or time is up.
func (e *Engine) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		if !e.daemon.running() {
			return false, errDaemonDown
		}
		return e.ping(ctx) == nil, nil
	})
	if err != nil {
		return fmt.Errorf("start daemon %s: %w: %s", e.name, err, e.lastLog())
	}
	return nil
}

// Kill ends the daemon and its containerd as a crash would: with SIGKILL.
// Containers go on running; the next daemon decides what becomes of them.
func (e *Engine) Kill() error {
	if !e.daemon.running() {
		return fmt.Errorf("kill daemon %s: %w", e.name, errDaemonDown)
	}
	containerd := e.containerdPID()
	e.daemon.kill()
	if containerd > 0 {
		_ = syscall.Kill(containerd, syscall.SIGKILL)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return poll(ctx, func() (bool, error) { return !alive(containerd), nil })
}

// Stop ends the daemon as a system shutdown would, its containers included.
func (e *Engine) Stop() error {
	if !e.daemon.running() {
		return fmt.Errorf("stop daemon %s: %w", e.name, errDaemonDown)
	}
	if err := e.daemon.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop daemon %s: %w", e.name, err)
	}
	select {
	case <-e.daemon.done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("stop daemon %s: still there after %s", e.name, stopTimeout)
	}
}

// Running says whether the daemon process lives.
func (e *Engine) Running() bool { return e.daemon.running() }

// Reload makes the daemon read its configuration file again. It returns when
// the daemon says that it did.
func (e *Engine) Reload(ctx context.Context) error {
	if !e.daemon.running() {
		return fmt.Errorf("reload daemon %s: %w", e.name, errDaemonDown)
	}
	before := e.countLog(reloaded)
	if err := e.daemon.signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload daemon %s: %w", e.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := poll(ctx, func() (bool, error) { return e.countLog(reloaded) > before, nil })
	if err != nil {
		return fmt.Errorf("reload daemon %s: %w: %s", e.name, err, e.lastLog())
	}
	return nil
}

// ReloadWith writes daemon.json afresh, the options' own settings with these
// merged over them, and reloads.
func (e *Engine) ReloadWith(ctx context.Context, settings map[string]any) error {
	config := e.daemonConfig()
	for key, value := range settings {
		config[key] = value
	}
	if err := e.writeDaemonConfig(config); err != nil {
		return err
	}
	return e.Reload(ctx)
}

// reloaded is what every engine from 20.10 on logs after a SIGHUP.
const reloaded = "Reloaded configuration:"

func (e *Engine) countLog(what string) int {
	content, _ := os.ReadFile(e.LogFile())
	return strings.Count(string(content), what)
}

// lastLog is the end of the daemon's log, for an error.
func (e *Engine) lastLog() string {
	content, _ := os.ReadFile(e.LogFile())
	if len(content) > 1500 {
		content = content[len(content)-1500:]
	}
	return strings.TrimSpace(string(content))
}

// containerdPIDFiles are where engines before and after 23 keep it.
var containerdPIDFiles = []string{"exec/containerd/containerd.pid", "exec/containerd.pid"}

func (e *Engine) containerdPID() int {
	for _, file := range containerdPIDFiles {
		content, err := os.ReadFile(filepath.Join(e.dir, file))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil && alive(pid) {
			return pid
		}
	}
	return 0
}

// poll asks until done, an error or the end of ctx.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
