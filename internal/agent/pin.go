package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/reconcile"
)

// Pin keeps a container at the versions that it has, because somebody asked for it.
func (a *Agent) Pin(ctx context.Context, who api.Caller, req wire.ContainerRequest) (wire.PinResponse, error) {
	m, pin, err := a.controller.Keep(ctx, req.Container, author(who))
	if err != nil {
		return wire.PinResponse{}, pinError(req.Container, err)
	}
	a.noteVersions(ctx, audit.Record{What: audit.Ask, Container: m.Name, ID: m.ShortID(), Why: "pin"}, pin.Versions)
	return wire.PinResponse{Container: m.Name, Versions: reconcile.Texts(pin.Versions), Pin: &wire.Pin{Since: pin.Since, Failed: reconcile.Texts(pin.Failed), By: pin.By}}, nil
}

// Unpin lets the container follow the current versions again.
func (a *Agent) Unpin(ctx context.Context, _ api.Caller, req wire.ContainerRequest) (wire.PinResponse, error) {
	m, err := a.controller.LetGo(ctx, req.Container)
	if err != nil {
		return wire.PinResponse{}, pinError(req.Container, err)
	}
	_ = a.note(ctx, audit.Record{What: audit.Ask, Container: m.Name, ID: m.ShortID(), Why: "unpin"})
	return wire.PinResponse{Container: m.Name}, nil
}

func pinError(name string, err error) error {
	hint := ""
	code := ""
	switch {
	case errors.Is(err, reconcile.ErrNoContainer):
		code, hint = wire.CodeNotFound, "docker dso status lists those that use references"
		err = fmt.Errorf("no container that uses references is named %q", name)
	case errors.Is(err, reconcile.ErrChangingOver):
		code, hint = wire.CodeInUse, "docker dso rotations shows how it goes; pin it when it is over"
	case errors.Is(err, reconcile.ErrNothingKnown):
		code, hint = wire.CodeInUse, "start it, and pin it then"
	case errors.Is(err, reconcile.ErrNotPinned):
		code, hint = wire.CodeInUse, "docker dso status shows pins; docker dso rotate tries versions again that did not work"
	default:
		return err
	}
	return &api.Error{Code: code, Err: fmt.Errorf("container %s: %w", name, err), Hint: hint}
}
