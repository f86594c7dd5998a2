package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// ErrStopped is wrapped when a container that did not become healthy was told to end by
// somebody outside: that says nothing about its versions.
var ErrStopped = errors.New("it was stopped from outside")

// verdict is err, which says that the container does not work, unless that is somebody
// else's doing. Where it is that of an engine that goes down, the error says that the
// engine is not available: the rotation goes on from here when it is again.
//
// The engine's history tells it, and nothing else does: a process that was stopped may end
// with any exit code, and what the engine says of the container is the same.
func (m *Machine) verdict(ctx context.Context, c engine.Container, err error) error {
	if !errors.Is(err, ErrUnhealthy) && !errors.Is(err, ErrReload) || c.State.StartedAt.IsZero() {
		return err
	}
	sent, unknown := m.Engine.Signals(ctx, c.ID, c.State.StartedAt)
	switch {
	case engine.Unavailable(unknown), unknown != nil && ctx.Err() != nil:
		return unknown
	case unknown != nil:
		m.Log.Warn("not known whether the container was stopped from outside", "container", c.Name, "error", unknown)
	case slices.ContainsFunc(sent, func(s unix.Signal) bool { return ends(c.Spec.Config, s) }):
		if gone := m.Engine.Accepts(ctx); gone != nil {
			return gone
		}
		return fmt.Errorf("%w: %v", ErrStopped, err) //nolint:errorlint // it is no longer that
	}
	return err
}

// ends reports whether a signal tells a container's process to end: all do but those that
// tell it something else by custom, such as to read its files anew. What it does after
// these is its own doing.
func ends(cfg *container.Config, s unix.Signal) bool {
	switch s {
	case unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH:
		return cfg != nil && s == stopSignal(cfg.StopSignal)
	}
	return true
}

// stopSignal reads a signal as an image or docker run names it: SIGQUIT, quit or 3.
func stopSignal(text string) unix.Signal {
	if n, err := strconv.Atoi(text); err == nil {
		return unix.Signal(n)
	}
	return unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG"))
}
