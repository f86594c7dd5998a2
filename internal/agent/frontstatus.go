package agent

import (
	"context"
	"errors"
	"io/fs"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// Fronts tells of each front what its map orders, and what the kernel has of it.
func (a *Agent) Fronts(ctx context.Context) ([]wire.Front, error) {
	ids, err := a.engine.List(ctx, label.FrontService)
	if err != nil {
		return nil, err
	}
	all, err := engine.InspectAll(ctx, a.engine, ids)
	if err != nil {
		return nil, err
	}
	rows := []wire.Front{}
	for _, c := range all {
		rows = append(rows, a.front(c))
	}
	return rows, nil
}

func (a *Agent) front(c engine.Container) wire.Front {
	service := c.Label(label.FrontService)
	row := wire.Front{Key: c.Project() + "_" + service, Container: c.Name, Service: service, Running: c.Running(), Targets: []string{}}
	if dir, err := a.fronts.maps.Dir(row.Key); err == nil {
		m, err := frontmap.Load(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			row.Error = err.Error()
		}
		row.Ordered, row.Targets = m.Generation, append(row.Targets, m.Targets...)
	}
	if !row.Running {
		return row
	}
	applied, _, err := address.Applied(c.State.Pid)
	row.Applied = applied
	if err != nil && row.Error == "" {
		row.Error = err.Error()
	}
	return row
}
