package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	testengine "github.com/docker-secret-operator/dso/test/engine"
	"github.com/docker-secret-operator/dso/test/load"
)

// The images of the test applications, with a health check each second.
const (
	Answerer   = "answerer:test"
	Datakeeper = "datakeeper:test"
)

// CheckedSeldom follows an image in a Compose file, and keeps the health checks of many
// containers from taking the machine: each is a process in the container. DSO's gates, and
// [Lab.CheckWithin], run the check themselves when they need it.
const CheckedSeldom = `
    healthcheck: {interval: 10s, timeout: 20s, retries: 5}`

// Lab is a private engine with at most one running agent.
type Lab struct {
	*testengine.Engine
	Dir   string // for the lab's files; gone after Close
	agent *exec.Cmd
	done  chan error
}

// Open starts a private engine and builds the images of the test applications.
// root is the repository, whose programs must have been built into bin/.
func Open(ctx context.Context, root string) (*Lab, error) {
	return OpenWith(ctx, root, testengine.FromRepository(root))
}

// OpenWith is Open with other options for the engine.
func OpenWith(ctx context.Context, root string, opts testengine.Options) (*Lab, error) {
	e, err := testengine.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	l := &Lab{Engine: e}
	if err := l.prepare(ctx, root); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) prepare(ctx context.Context, root string) error {
	var err error
	if l.Dir, err = os.MkdirTemp("", "dso-lab-"); err != nil {
		return err
	}
	for _, app := range []string{"answerer", "datakeeper"} {
		health := `HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD ["/` + app + `", "healthcheck"]`
		if err := l.ImportStatic(ctx, app+":test", filepath.Join(root, "bin", app), health); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the agent and the engine and removes every trace.
func (l *Lab) Close() error {
	var err error
	if l.agent != nil {
		err = l.KillAgent()
	}
	return errors.Join(err, l.Engine.Close(), os.RemoveAll(l.Dir))
}

// AgentLog is the file that every agent of the lab logs to.
func (l *Lab) AgentLog() string { return filepath.Join(l.Dir, "agent.log") }

// StartAgent starts dso-agent, without a configuration file, and returns when it
// has finished its recovery.
func (l *Lab) StartAgent(ctx context.Context, args ...string) error {
	ready, err := l.LaunchAgent(ctx, nil, args...)
	if err != nil {
		return err
	}
	return ready(ctx)
}

// LaunchAgent starts dso-agent with additions to its environment, and does not
// wait for it. The returned function does, until the agent has finished its
// recovery.
func (l *Lab) LaunchAgent(ctx context.Context, env []string, args ...string) (ready func(context.Context) error, err error) {
	log, err := os.OpenFile(l.AgentLog(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	before, err := log.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	cmd := l.Command(context.WithoutCancel(ctx), "dso-agent", args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	l.agent, l.done = cmd, make(chan error, 1)
	done := l.done
	go func() { done <- cmd.Wait() }()
	return func(ctx context.Context) error { return l.await(ctx, before) }, nil
}

// AwaitAgentEnd waits until the agent ended with nobody asking it to.
func (l *Lab) AwaitAgentEnd(ctx context.Context) error {
	select {
	case err := <-l.done:
		l.agent = nil
		if err == nil {
			return errors.New("the agent ended as if it had been asked to")
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the agent goes on: %w", ctx.Err())
	}
}

func (l *Lab) await(ctx context.Context, from int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		text, err := os.ReadFile(l.AgentLog())
		if err == nil && bytes.Contains(text[from:], []byte(`"msg":"agent ready"`)) {
			return nil
		}
		select {
		case <-tick.C:
		case err := <-l.done:
			l.done <- err
			// What it said last came after the look above.
			text, readErr := os.ReadFile(l.AgentLog())
			if readErr != nil {
				return fmt.Errorf("the agent ended: %w: %w", err, readErr)
			}
			return fmt.Errorf("the agent ended: %w: %s", err, text[from:])
		case <-deadline:
			return fmt.Errorf("the agent was not ready within a minute: %s", text[from:])
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// KillAgent ends the agent as a crash would: with SIGKILL.
func (l *Lab) KillAgent() error { return l.endAgent(syscall.SIGKILL) }

// StopAgent ends the agent as systemd would, and returns what it exited with.
func (l *Lab) StopAgent() error { return l.endAgent(syscall.SIGTERM) }

func (l *Lab) endAgent(sig syscall.Signal) error {
	if l.agent == nil {
		return errors.New("no agent is running")
	}
	if err := l.agent.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := <-l.done
	l.agent = nil
	if sig == syscall.SIGKILL {
		return nil
	}
	return err
}

// AgentRuns reports whether an agent was started and has not been ended.
func (l *Lab) AgentRuns() bool { return l.agent != nil }

// AgentPID is the process of the running agent, in the machine's numbering.
func (l *Lab) AgentPID() int { return l.agent.Process.Pid }

// Unhealthy is the exit code of docker dso when it looked, and found something that is
// not as it should be.
const Unhealthy = 7

// DSO runs "docker dso …" inside and returns its output, both streams. That something is
// not as it should be is no error: a command that looks has done so.
func (l *Lab) DSO(ctx context.Context, args ...string) (string, error) {
	out, err := l.Docker(ctx, append([]string{"dso"}, args...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == Unhealthy {
		err = nil
	}
	return out, err
}

// DSOIn is DSO in a directory, with a value on standard input.
func (l *Lab) DSOIn(ctx context.Context, dir, stdin string, args ...string) (string, error) {
	cmd := l.CommandIn(ctx, dir, "docker", append([]string{"dso"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("docker dso %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Project writes a Compose file into a new directory, whose name is the
// project's.
func (l *Lab) Project(name, text string) (string, error) {
	dir := filepath.Join(l.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o600)
}

// Load is a running load client.
type Load struct {
	cmd   *exec.Cmd
	out   string
	stop  string
	floor string
	said  bytes.Buffer
}

// Place makes the command of a load client that runs somewhere; what is in dir must
// be there under the same path.
type Place func(ctx context.Context, dir string, args []string) *exec.Cmd

// OtherHost is a place on another host.
func (l *Lab) OtherHost(ctx context.Context, _ string, args []string) *exec.Cmd {
	return l.ClientCommand(ctx, "load", args...)
}

// OnHost is a place on the engine's host.
func (l *Lab) OnHost(ctx context.Context, _ string, args []string) *exec.Cmd {
	return l.Command(ctx, "load", args...)
}

// InContainer returns a place in a container of its own on a network. The image's
// program must be load.
func (l *Lab) InContainer(image, network string) Place {
	return func(ctx context.Context, dir string, args []string) *exec.Cmd {
		run := []string{"run", "--rm", "--network", network, "-v", dir + ":" + dir, image}
		return l.Command(ctx, "docker", append(run, args...)...)
	}
}

// StartLoad starts a load client on another host.
func (l *Lab) StartLoad(ctx context.Context, url string, args ...string) (*Load, error) {
	return l.StartLoadAt(ctx, l.OtherHost, url, args...)
}

// StartLoadAt starts a load client; url is as seen from its place.
func (l *Lab) StartLoadAt(ctx context.Context, place Place, url string, args ...string) (*Load, error) {
	dir, err := os.MkdirTemp(l.Dir, "load-")
	if err != nil {
		return nil, err
	}
	ld := &Load{out: filepath.Join(dir, "result.json"), stop: filepath.Join(dir, "stop"), floor: filepath.Join(dir, "floor")}
	args = append([]string{"-url", url, "-out", ld.out, "-stop-file", ld.stop, "-floor-file", ld.floor}, args...)
	ld.cmd = place(ctx, dir, args)
	ld.cmd.Stdout, ld.cmd.Stderr = &ld.said, &ld.said
	return ld, ld.cmd.Start()
}

// Floor says the oldest version that may be answered from now on.
func (ld *Load) Floor(marker string) error {
	tmp := ld.floor + ".tmp"
	if err := os.WriteFile(tmp, []byte(marker), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, ld.floor)
}

// Stop ends the load and returns what it saw.
func (ld *Load) Stop() (*load.Result, error) {
	if err := os.WriteFile(ld.stop, nil, 0o600); err != nil {
		return nil, err
	}
	if err := ld.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("load client: %w: %s", err, ld.said.String())
	}
	return load.ReadFile(ld.out)
}

// Leftovers names what no finished rotation may leave behind: containers with an
// intermediate name, locks, private bundles, pending rotations.
func (l *Lab) Leftovers(ctx context.Context) ([]string, error) {
	all, err := l.Containers(ctx)
	if err != nil {
		return nil, err
	}
	left, err := l.leftBy(all)
	if err != nil {
		return nil, err
	}
	st, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	if st.Rotations.Pending > 0 {
		left = append(left, fmt.Sprintf("%d pending rotations", st.Rotations.Pending))
	}
	return left, nil
}

// leftBy are those of the leftovers that can be seen without the agent.
func (l *Lab) leftBy(all []Container) ([]string, error) {
	var left []string
	for _, c := range all {
		if name := c.Name(); strings.Contains(name, "_dso_new_") || strings.Contains(name, "_dso_backup_") {
			left = append(left, "container "+name)
		}
	}
	for what, pattern := range map[string]string{
		"lock": "/var/lib/dso/locks/*", "bundle": "/run/dso/private/bundles/*", "temporary file": "/var/lib/dso/state/.*tmp*",
	} {
		found, err := l.staying(pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			left = append(left, what+" "+filepath.Base(f))
		}
	}
	return left, nil
}

// staying returns the files of a pattern that stay: a health check that happens
// to run has a bundle for some milliseconds.
func (l *Lab) staying(pattern string) ([]string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	found, err := filepath.Glob(l.HostPath(pattern))
	for range 100 {
		<-tick.C
		again, err := filepath.Glob(l.HostPath(pattern))
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(f string) bool { return !slices.Contains(again, f) })
		if len(found) == 0 {
			return nil, nil
		}
	}
	return found, err
}
