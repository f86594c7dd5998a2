package hostsetup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Apply does what is planned. When a step fails, all of them are undone; the error says
// which it was.
func (h *Host) Apply(ctx context.Context, p Plan) error {
	if len(p.Steps) == 0 {
		return nil
	}
	r, err := h.openRecord()
	if err != nil {
		return err
	}
	r.Complete, r.Begun = false, len(r.Steps)
	before := r.Registers
	r.Registers = p.Registration
	for i, s := range p.Steps {
		h.tell(s.What)
		if err := h.do(ctx, r, s, i); err != nil {
			// What was begun is undone, also when the caller does not wait.
			undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			r.Registers = before
			return errors.Join(fmt.Errorf("%s: %w", s.What, err), h.undoFrom(undoing, r, r.Begun))
		}
	}
	for _, d := range r.Steps[r.Begun:] {
		if d.Kind == CopyFile {
			_ = os.Remove(besides(h.path(d.Path)))
		}
	}
	r.settle()
	return h.saveRecord(r)
}

const undoTimeout = 2 * time.Minute

func (h *Host) tell(what string) {
	if h.Progress != nil {
		h.Progress(what)
	}
}

func (h *Host) fault(i int, when string) error {
	if h.Fault == nil {
		return nil
	}
	return h.Fault(fmt.Sprintf("%d/%s", i, when))
}

// do records a step and does it.
func (h *Host) do(ctx context.Context, r *Record, s Step, i int) error {
	d := Done{Step: s}
	if s.Kind == WriteFile || s.Kind == CopyFile {
		var err error
		if d.Before, err = h.before(s); err != nil {
			return err
		}
		if s.Kind == WriteFile {
			d.Wrote = []string{hashOf(s.Content)}
		}
	}
	r.Steps = append(r.Steps, d)
	if err := h.saveRecord(r); err != nil {
		return err
	}
	if err := h.fault(i, "before"); err != nil {
		return err
	}
	if err := h.perform(ctx, r, d); err != nil {
		return err
	}
	return h.fault(i, "after")
}

// before is the file that a step replaces. Of a program only that there was one: it
// keeps another name until the setup has succeeded.
func (h *Host) before(s Step) (*Before, error) {
	path := h.path(s.Path)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := &Before{Mode: st.Mode().Perm()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		b.UID, b.GID = int(sys.Uid), int(sys.Gid)
	}
	if s.Kind == WriteFile {
		b.Content, err = os.ReadFile(path)
	}
	return b, err
}

func (h *Host) perform(ctx context.Context, r *Record, d Done) error {
	path := h.path(d.Path)
	switch d.Kind {
	case MakeGroup:
		_, err := h.Run(ctx, "groupadd", h.prefixed("--system", d.Name)...)
		return err
	case MakeDir:
		return h.makeDir(path, d)
	case WriteFile:
		if d.Effect == ReloadEngine {
			if err := h.validate(ctx, d); err != nil {
				return err
			}
		}
		if err := h.write(path, d.Content, d.Mode, d.Before); err != nil {
			return err
		}
		return h.effect(ctx, d.Effect, d.Path, r.Registers)
	case CopyFile:
		return install(d.Source, path, d.Before != nil)
	case EnableUnit:
		_, err := h.systemctl(ctx, "enable", d.Name)
		return err
	case StartAgent:
		return h.startAgent(ctx)
	case RunAgent:
		return h.runContainer(ctx, d)
	}
	return fmt.Errorf("no step is of kind %q", d.Kind)
}

// prefixed gives the programs of shadow the tree they work on.
func (h *Host) prefixed(args ...string) []string {
	if h.live() {
		return args
	}
	return append([]string{"--prefix", h.Root}, args...)
}

func (h *Host) makeDir(path string, d Done) error {
	if err := os.Mkdir(path, 0o700); err != nil && (d.Path != stateDir || !errors.Is(err, fs.ErrExist)) {
		return err
	}
	if d.Group != "" {
		id, ok := h.groupID(d.Group)
		if !ok {
			return fmt.Errorf("there is no group %s", d.Group)
		}
		gid, err := strconv.Atoi(id)
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, d.Mode)
}

// write replaces a file and keeps its owner.
func (h *Host) write(path string, content []byte, mode fs.FileMode, before *Before) error {
	if err := durable.WriteFile(path, content, mode); err != nil {
		return err
	}
	if before == nil || before.UID == 0 && before.GID == 0 {
		return nil
	}
	return os.Chown(path, before.UID, before.GID)
}

// install copies a program. One that runs cannot be written to, but replaced.
func install(from, to string, there bool) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if there {
		_ = os.Remove(besides(to))
		if err := os.Link(to, besides(to)); err != nil {
			return err
		}
	}
	return durable.WriteFile(to, data, 0o755)
}

// effect lets hear of a file who must.
func (h *Host) effect(ctx context.Context, e Effect, path string, want Registration) error {
	var err error
	switch {
	case e == CreateFiles && h.live():
		_, err = h.Run(ctx, "systemd-tmpfiles", "--create", path)
	case e == ReloadUnits && h.live():
		_, err = h.systemctl(ctx, "daemon-reload")
	case e == ReloadEngine && h.live():
		err = h.reloadEngine(ctx, want.check)
	}
	return err
}

// check says why the engine is not the way it was registered.
func (want Registration) check(i Info) error {
	switch {
	case i.Runtimes[RuntimeName] != want.Path:
		return fmt.Errorf("the engine does not know the runtime %s with the path %s (it knows %v)", RuntimeName, want.Path, i.Runtimes)
	case want.Default && i.Default != RuntimeName:
		return fmt.Errorf("the engine's default runtime is %s and not %s", i.Default, RuntimeName)
	}
	return nil
}

// daemonDraft is a daemon.json, in the state directory, until the engine has checked it.
const daemonDraft = ".daemon.json.draft"

// validate lets the engine's own program check a daemon.json, where it can (from 23.0
// on). An older one checks it at the reload, and keeps what it had when it is wrong.
func (h *Host) validate(ctx context.Context, d Done) (err error) {
	if !h.live() {
		return nil
	}
	help, err := h.Run(ctx, "dockerd", "--help")
	if err != nil || !strings.Contains(help, "--validate") {
		return nil
	}
	tmp := filepath.Join(h.path(stateDir), daemonDraft)
	if err := durable.WriteFile(tmp, d.Content, 0o600); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp)) }()
	_, err = h.Run(ctx, "dockerd", "--validate", "--config-file", tmp)
	return err
}

const (
	reloadTimeout = 15 * time.Second
	startTimeout  = 30 * time.Second
	pause         = 50 * time.Millisecond
)

// reloadEngine makes a running engine read its daemon.json, and waits until check has
// nothing against what it says.
func (h *Host) reloadEngine(ctx context.Context, check func(Info) error) error {
	d := h.findDaemon()
	if d.pid == 0 {
		return nil // it reads it when it starts
	}
	if err := syscall.Kill(d.pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload the engine: %w", err)
	}
	return until(ctx, reloadTimeout, func() error {
		info, err := h.Engine.Info(ctx)
		if err != nil {
			return err
		}
		return check(info)
	})
}

// startAgent starts the agent and waits until it answers. It is ready later, when the
// engine answers and its recovery is over.
func (h *Host) startAgent(ctx context.Context) error {
	for _, unit := range units {
		if _, err := h.systemctl(ctx, "start", "--no-block", unit); err != nil {
			return err
		}
	}
	if h.Answers == nil {
		return nil
	}
	err := until(ctx, startTimeout, func() error { return h.Answers(ctx) })
	if err == nil {
		return nil
	}
	if log, logErr := h.Run(ctx, "journalctl", "-u", "dso-agent", "-n", "5", "-o", "cat", "--no-pager"); logErr == nil {
		err = fmt.Errorf("%w; its last words:\n%s", err, log)
	}
	return err
}

// until calls try until it succeeds or the time is over.
func until(ctx context.Context, timeout time.Duration, try func() error) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("not within %s: %w", timeout, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
