package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/lockfile"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// remember keeps what came of rotations that are over.
func (a *Agent) remember(entries ...rotation.Entry) {
	if err := a.history.Note(entries...); err != nil {
		a.log.Error("history of rotations not written", "error", err)
	}
}

// Rotations lists what the journal and the history remember, oldest first.
func (a *Agent) Rotations(context.Context) ([]wire.Rotation, error) {
	rows := []wire.Rotation{}
	for _, e := range a.history.And(a.journal) {
		rows = append(rows, wireRotation(e))
	}
	return rows, nil
}

func wireRotation(e rotation.Entry) wire.Rotation {
	r := wire.Rotation{
		Key: e.Key(), ID: e.ID, Container: e.ContainerName, Secret: e.SecretName, From: reconcile.Texts(e.From), To: reconcile.Texts(e.To), Strategy: string(e.Strategy), Reasons: e.Reasons,
		Status: string(e.Status), Phase: string(e.Phase), Step: string(e.Step), StuckStep: string(e.StuckStep), Pending: e.Pending(),
		Outcome: string(e.Outcome), Cause: e.Cause, Error: e.ErrorMessage, Started: e.StartTime, Updated: e.LastUpdate,
	}
	r.Todo, r.Why = e.Todo()
	return r
}

// Recover carries on at once what is pending and tries again what needs a person,
// telling the steps.
func (a *Agent) Recover(ctx context.Context, req wire.RecoverRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	about := func(p rotation.Progress) bool {
		return req.Key == "" || p.Key == req.Key || p.RotationID == req.Key || p.Container == req.Key
	}
	return a.following(about, tell, func() ([]reconcile.Result, error) { return a.controller.Recover(ctx, req.Key) })
}

// MarkRecovered ends a rotation by a person's word.
func (a *Agent) MarkRecovered(ctx context.Context, req wire.RecoverRequest) (wire.Rotation, error) {
	if req.Key == "" {
		return wire.Rotation{}, &api.Error{Code: wire.CodeInvalid, Err: errors.New("it must be said which rotation"), Hint: "docker dso rotations --json shows their keys"}
	}
	e, err := a.controller.Mark(ctx, req.Key)
	switch {
	case errors.Is(err, reconcile.ErrNoRotation):
		return wire.Rotation{}, &api.Error{Code: wire.CodeNotFound, Err: err, Hint: "docker dso recover --dry-run lists what is not finished"}
	case errors.Is(err, reconcile.ErrManyRotations):
		return wire.Rotation{}, &api.Error{Code: wire.CodeInvalid, Err: err}
	case err != nil:
		return wire.Rotation{}, err
	}
	_ = a.note(ctx, audit.Record{What: audit.Rotate, Container: e.ContainerName, Why: "marked as recovered by a person", Outcome: string(e.Outcome)})
	a.log.Warn("rotation marked as recovered by a person", "rotation", e.ID, "container", e.ContainerName, "key", e.Key())
	return wireRotation(e), nil
}

// Locks tells which locks the agent has itself, and what lies under the names of
// those of the secrets.
func (a *Agent) Locks(context.Context) ([]wire.Lock, error) {
	var files []lockfile.File
	for _, path := range a.claims.held() {
		f, err := lockfile.Read(path)
		if err != nil {
			f.Note = err.Error()
		}
		files = append(files, f)
	}
	secrets, err := a.locks.Files()
	if err != nil {
		return nil, err
	}
	rows := []wire.Lock{}
	for _, f := range append(files, secrets...) {
		row := wire.Lock{
			Secret: f.Secret, Agent: f.Agent, Path: f.Path, PID: f.PID, Since: f.StartTime, BootID: f.BootID,
			Held: f.Held, Alive: f.Alive, SameBoot: f.SameBoot, Note: f.Note,
		}
		if !f.StartTime.IsZero() {
			row.Age = time.Since(f.StartTime).Round(time.Second).String()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// sweepLocks removes the lock files that nobody holds: none of them is ours yet.
func (a *Agent) sweepLocks() {
	swept, err := a.locks.Sweep(time.Now())
	if err != nil {
		a.log.Warn("lock files not swept", "error", err)
	}
	for _, f := range swept {
		a.log.Info("stale lock file removed", "file", f.Path, "pid", f.PID, "since", f.StartTime, "note", f.Note)
	}
}
