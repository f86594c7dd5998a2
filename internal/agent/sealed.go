package agent

import (
	"context"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/seal"
)

// sealed is what the sealed values are used for.
type sealed interface {
	deliver.Sealed
	resolve.Sealed
}

// The configuration's words that are no protection: none sealed, and the best there is.
const (
	sealOff  = "off"
	sealAuto = "auto"
)

// openSealed opens the sealed values as the configuration wants them. It returns nil
// when it wants none; what there was is removed then.
func (a *Agent) openSealed() (sealed, error) {
	dir, by := a.state("sealed"), sealAuto
	if a.cfg.Loaded != nil {
		by = a.cfg.Loaded.Agent.Seal
	}
	if by == sealOff {
		return nil, seal.Destroy(dir)
	}
	ctx := context.Background()
	var s *seal.Store
	var problems []error
	var err error
	switch {
	case by != sealAuto:
		s, problems, err = seal.Open(ctx, dir, seal.Protection(by))
	case seal.HasTPM(ctx):
		if s, problems, err = seal.Open(ctx, dir, seal.ByTPM); err == nil {
			break
		}
		a.log.Warn("the TPM2 does not protect the sealing key, a file does", "error", err)
		fallthrough
	default:
		s, problems, err = seal.Open(ctx, dir, seal.ByFile)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		a.log.Warn("sealed values", "error", p)
	}
	return s, nil
}
