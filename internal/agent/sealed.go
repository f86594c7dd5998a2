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

// sealOff is the configuration's word for no sealed values.
const sealOff = "off"

// openSealed opens the sealed values as the configuration wants them. It returns nil
// when it wants none; what there was is removed then.
func (a *Agent) openSealed() (sealed, error) {
	dir, by := a.state("sealed"), "auto"
	if a.cfg.Loaded != nil {
		by = a.cfg.Loaded.Agent.Seal
	}
	if by == sealOff {
		return nil, seal.Destroy(dir)
	}
	protection := seal.Protection(by)
	if by == "auto" {
		protection = seal.ByFile
		if seal.HasTPM(context.Background()) {
			protection = seal.ByTPM
		}
	}
	s, problems, err := seal.Open(context.Background(), dir, protection)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		a.log.Warn("sealed values", "error", p)
	}
	return s, nil
}
