package agent

import (
	"context"
	"errors"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/seal"
)

// sealed is what the sealed values are used for.
type sealed interface {
	deliver.Sealed
	resolve.Sealed
	notes
	Info() seal.Info
	NewKey(ctx context.Context, by seal.Protection) error
}

// Seal describes the sealed values.
func (a *Agent) Seal(context.Context) (wire.Seal, error) {
	if a.sealed == nil {
		return wire.Seal{Protection: sealOff}, nil
	}
	i := a.sealed.Info()
	return wire.Seal{Protection: string(i.Protection), Key: i.Key, Dir: a.state("sealed"), Containers: i.Containers, Values: i.Values}, nil
}

// NewSealKey makes another key and seals everything with it.
func (a *Agent) NewSealKey(ctx context.Context) (wire.Seal, error) {
	if a.sealed == nil {
		return wire.Seal{}, &api.Error{Code: wire.CodeInvalid, Err: errors.New("nothing is sealed: agent.seal is off"), Hint: "agent.seal: auto in dso.yaml, and a restart of the agent"}
	}
	ctx = context.WithoutCancel(ctx) // whoever asked may go away, the key is changed all the same
	if err := a.sealed.NewKey(ctx, a.sealed.Info().Protection); err != nil {
		return wire.Seal{}, err
	}
	a.log.Info("sealing key changed", "key", a.sealed.Info().Key)
	return a.Seal(ctx)
}

// The configuration's words that are no protection: none sealed, and the best there is.
const (
	sealOff  = "off"
	sealAuto = "auto"
)

// openSealed opens the sealed values as the configuration wants them. It returns nil
// when it wants none, and what there was is removed then, or when there can be none.
func (a *Agent) openSealed() (sealed, error) {
	dir, by := a.state("sealed"), sealAuto
	if a.cfg.Loaded != nil {
		by = a.cfg.Loaded.Agent.Seal
	}
	if by == sealOff {
		return nil, seal.Destroy(dir)
	}
	ctx, protection := context.Background(), seal.Protection(by)
	if by == sealAuto {
		protection = seal.ByFile
		if seal.HasTPM(ctx) {
			protection = seal.ByTPM
		}
	}
	s, problems, err := seal.Open(ctx, dir, protection)
	if err != nil && by == sealAuto && protection == seal.ByTPM {
		a.log.Warn("the TPM2 does not protect the sealing key, a file does", "error", err)
		s, problems, err = seal.Open(ctx, dir, seal.ByFile)
	}
	if err != nil {
		// They are for when a store is down; that they cannot be kept must not be why
		// nothing starts while it is up.
		a.log.Error("no values are sealed: containers cannot start while their store is down", "error", err)
		return nil, nil
	}
	for _, p := range problems {
		a.log.Warn("sealed values", "error", p)
	}
	return s, nil
}
