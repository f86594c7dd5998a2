package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/legacy"
	"github.com/docker-secret-operator/dso/internal/lockfile"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// adopter deals with the leftovers of the older implementation. What a rotation of
// ours that is not over is about is not among them.
func (a *Agent) adopter() *legacy.Adopter {
	unfinished := func(about func(rotation.Entry) bool) bool {
		return slices.ContainsFunc(a.journal.All(), func(e rotation.Entry) bool {
			return e.Unfinished() && about(e)
		})
	}
	return &legacy.Adopter{
		Engine: a.engine,
		Ours: func(id string) bool {
			return unfinished(func(e rotation.Entry) bool { return e.Concerns(id) })
		},
		Busy: func(name string) bool {
			return unfinished(func(e rotation.Entry) bool { return e.ContainerName == name })
		},
		Healthy: a.controller.Machine.AwaitHealthy,
		Log:     a.log,
	}
}

// Legacy lists the leftovers of the older implementation, with what would be done.
func (a *Agent) Legacy(ctx context.Context) ([]wire.Leftover, error) {
	items, err := a.adopter().Plan(ctx)
	if err != nil {
		return nil, err
	}
	rows := []wire.Leftover{}
	for _, i := range items {
		rows = append(rows, wireLeftover(i))
	}
	files, err := a.locks.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if oldForm(f) {
			rows = append(rows, lockLeftover(f))
		}
	}
	return rows, nil
}

// Adopt does what a person has agreed to, as far as it is still right.
func (a *Agent) Adopt(ctx context.Context, req wire.AdoptRequest) ([]wire.Leftover, error) {
	if len(req.Items) == 0 {
		return nil, &api.Error{Code: wire.CodeInvalid, Err: errors.New("it must be said which leftovers"), Hint: "docker dso recover --adopt-legacy lists them"}
	}
	rows := []wire.Leftover{}
	var items []legacy.Item
	for _, l := range req.Items {
		if l.Kind == wire.LeftoverContainer {
			items = append(items, legacy.Item{ID: l.ID, Name: l.Name, Of: l.Of, Do: legacy.Do(l.Do), Why: l.Why, Else: l.Else})
		}
	}
	for _, r := range a.adopter().Adopt(ctx, items) {
		row := wireLeftover(r.Item)
		row.Done = r.Err == nil
		if r.Err != nil {
			row.Error = r.Err.Error()
		}
		rows = append(rows, row)
	}
	if !slices.ContainsFunc(req.Items, func(l wire.Leftover) bool { return l.Kind == wire.LeftoverLock && l.Do == string(legacy.Remove) }) {
		return rows, nil
	}
	swept, err := a.locks.Sweep(time.Now())
	for _, f := range swept {
		row := lockLeftover(f)
		row.Done = true
		rows = append(rows, row)
	}
	return rows, err
}

func wireLeftover(i legacy.Item) wire.Leftover {
	return wire.Leftover{
		Kind: wire.LeftoverContainer, ID: i.ID, Name: i.Name, Of: i.Of, Do: string(i.Do), Why: i.Why, Else: i.Else, Commands: i.Commands,
	}
}

// oldForm reports whether no lock of this version looks so.
func oldForm(f lockfile.File) bool { return f.Note != "" || f.BootID == "" }

// lockLeftover is a lock file: one that nobody holds means nothing, one that is held
// is somebody's, however old it looks.
func lockLeftover(f lockfile.File) wire.Leftover {
	l := wire.Leftover{Kind: wire.LeftoverLock, ID: f.Path, Name: f.Path, Of: f.Secret, Do: string(legacy.Remove), Why: "nobody holds it"}
	if f.Held {
		l.Do, l.Why = string(legacy.Report), "a process holds it"
		l.Commands = []string{"docker dso locks", "fuser -v " + f.Path}
	}
	return l
}
