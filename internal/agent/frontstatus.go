package agent

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// frontStatus tells of each front what its map orders, and what the kernel has of it, and of
// services that miss theirs.
func (a *Agent) frontStatus(ctx context.Context) ([]wire.Front, error) {
	fronts, err := a.labelled(ctx, label.FrontService)
	if err != nil {
		return nil, err
	}
	behind, err := a.labelled(ctx, label.Front)
	if err != nil {
		return nil, err
	}
	rows := []wire.Front{}
	for _, c := range fronts {
		rows = append(rows, a.front(c))
	}
	for _, c := range behind {
		if !c.Running() {
			continue
		}
		key := c.Project() + "_" + c.Service()
		i := slices.IndexFunc(rows, func(f wire.Front) bool { return f.Key == key })
		if i < 0 {
			i = len(rows)
			rows = append(rows, wire.Front{Key: key, Service: c.Service(), Targets: []string{}})
		}
		rows[i].Needed = true
	}
	return rows, nil
}

func (a *Agent) labelled(ctx context.Context, key string) ([]engine.Container, error) {
	ids, err := a.engine.List(ctx, key)
	if err != nil {
		return nil, err
	}
	return engine.InspectAll(ctx, a.engine, ids)
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
