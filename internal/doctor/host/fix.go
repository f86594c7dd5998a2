package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/lockfile"
)

// ErrHeld says that a lock is held by now.
var ErrHeld = errors.New("somebody holds it now")

// Apply does what a finding offers. Each looks again right before.
func (h Host) Apply(ctx context.Context, f doctor.Fix) error {
	h = h.withDefaults()
	switch f.Kind {
	case doctor.FixMode, doctor.FixLock, doctor.FixQuarantine:
		if !h.fixable(f.Target) {
			return fmt.Errorf("%s is none of the files that doctor looks at", f.Target)
		}
	}
	switch f.Kind {
	case doctor.FixMode:
		st, err := os.Lstat(f.Target)
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a link by now", f.Target)
		}
		return os.Chmod(f.Target, st.Mode().Perm()&fs.FileMode(f.Mode))
	case doctor.FixLock:
		gone, err := lockfile.Sweep(f.Target, time.Now())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !gone {
			return ErrHeld
		}
		return err
	case doctor.FixQuarantine:
		return durable.Remove(f.Target)
	case doctor.FixStart, doctor.FixEnable:
		if f.Target == doctor.AgentContainer {
			return h.keeper().Enable(ctx)
		}
		if f.Kind == doctor.FixEnable {
			return systemctl(ctx, "enable", f.Target)
		}
		return systemctl(ctx, "start", f.Target)
	case doctor.FixRecover:
		_, err := h.Agent.Recover(ctx, wire.RecoverRequest{}, func(wire.RotateStep) {})
		return err
	case doctor.FixLeftovers:
		return h.adopt(ctx)
	}
	return fmt.Errorf("no way to do %q", f.Kind)
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (h Host) adopt(ctx context.Context) error {
	var rows, clear []wire.Leftover
	if err := h.Agent.Call(ctx, "GET", "/v1/legacy", nil, &rows); err != nil {
		return err
	}
	for _, l := range rows {
		if l.Do != "report" {
			clear = append(clear, l)
		}
	}
	if len(clear) == 0 {
		return nil
	}
	done, err := h.Agent.Adopt(ctx, wire.AdoptRequest{Items: clear})
	for _, l := range done {
		if l.Error != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", l.Name, l.Error))
		}
	}
	return err
}
