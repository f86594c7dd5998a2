package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Rotate brings what the request names up to date, telling the steps.
func (a *Agent) Rotate(ctx context.Context, req wire.RotateRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	all := req.Secret == "" && req.Container == ""
	if all && req.Force {
		return nil, errors.New("what is up to date is rotated by name: of a secret, or of a container")
	}
	target := reconcile.Target{Container: req.Container, Force: req.Force, NoWait: req.NoWait, Cause: req.Cause}
	if req.Secret != "" {
		id, err := secret.ParseName(req.Secret, req.Project, a.resolver.Providers().Has)
		if err != nil {
			return nil, err
		}
		target.Secret = id
	}
	_ = a.note(ctx, audit.Record{What: audit.Ask, Secret: idText(target.Secret), Container: req.Container, Why: req.Cause})
	about := func(p rotation.Progress) bool {
		return all || p.Container == target.Container || p.About(target.Secret)
	}
	results, err := a.following(about, tell, func() ([]reconcile.Result, error) { return a.controller.Sync(ctx, target) })
	if errors.Is(err, reconcile.ErrNoContainer) {
		return nil, &api.Error{
			Code: wire.CodeNotFound, Err: fmt.Errorf("no running container that uses references is named %q", req.Container),
			Hint: "docker dso status lists those that do",
		}
	}
	if err == nil && len(results) == 0 && target.Secret != (secret.ID{}) && !req.NoWait {
		err = a.exists(ctx, target.Secret)
	}
	return results, err
}

// exists asks the store whether there is such a secret.
func (a *Agent) exists(ctx context.Context, id secret.ID) error {
	p, err := a.resolver.Providers().Lookup(id.Provider)
	if err != nil {
		return err
	}
	if _, err = p.Version(ctx, id.Path); errors.Is(err, provider.ErrNotFound) {
		return &api.Error{
			Code: wire.CodeNotFound, Err: fmt.Errorf("no container uses %s, and its store has no such secret", id),
			Hint: "docker dso status lists the secrets in use, docker dso secret list those of the local vault",
		}
	}
	return err
}

func idText(id secret.ID) string {
	if id == (secret.ID{}) {
		return ""
	}
	return id.String()
}

// following tells the steps of the rotations in question while work goes on.
func (a *Agent) following(about func(rotation.Progress) bool, tell func(wire.RotateStep), work func() ([]reconcile.Result, error)) ([]wire.RotateResult, error) {
	steps, stop := a.hub.subscribe()
	defer stop()
	var results []reconcile.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		results, err = work()
	}()
	pass := func(p rotation.Progress) {
		if about(p) {
			tell(wireStep(p))
		}
	}
	for {
		select {
		case p := <-steps:
			pass(p)
		case <-done:
			for len(steps) > 0 {
				pass(<-steps)
			}
			return wireResults(results), err
		}
	}
}

func wireStep(p rotation.Progress) wire.RotateStep {
	return wire.RotateStep{
		Rotation: p.RotationID, Container: p.Container, Strategy: string(p.Strategy), Step: string(p.Step),
		Phase: string(p.Phase), Outcome: string(p.Outcome), Detail: p.Detail, Time: p.Time,
	}
}

func wireResults(results []reconcile.Result) []wire.RotateResult {
	out := make([]wire.RotateResult, 0, len(results))
	for _, r := range results {
		out = append(out, wire.RotateResult{
			Container: r.Container, Strategy: string(r.Strategy), Reasons: r.Reasons, Outcome: string(r.Outcome), Error: r.Error, Note: r.Note,
		})
	}
	return out
}

// Events returns what is kept of the events after a number, and a channel that is
// closed when there is a newer one.
func (a *Agent) Events(after uint64) ([]wire.Event, <-chan struct{}) {
	found, newer := a.events.After(after)
	out := make([]wire.Event, len(found))
	for i, e := range found {
		out[i] = wire.Event{Number: e.Number, Time: e.Time.UTC(), Level: strings.ToLower(e.Level.String()), Message: e.Message, Fields: e.Fields}
	}
	return out, newer
}

// FrontImage makes sure that the engine has the image of the fronts, and that nobody
// else has the ports that the project claims.
func (a *Agent) FrontImage(ctx context.Context, req wire.FrontRequest) (wire.FrontImage, error) {
	runtimes, err := a.engine.Runtimes(ctx)
	if err != nil {
		return wire.FrontImage{}, err
	}
	if !slices.Contains(runtimes, reconcile.Runtime) {
		return wire.FrontImage{}, &api.Error{
			Code: wire.CodeInvalid,
			Err:  fmt.Errorf("the engine knows no runtime %q", reconcile.Runtime),
			Hint: `add {"runtimes": {"dso": {"path": "/usr/local/bin/dso-runtime"}}} to /etc/docker/daemon.json and reload the engine (systemctl reload docker)`,
		}
	}
	if err := a.portsFree(ctx, req); err != nil {
		return wire.FrontImage{}, err
	}
	tag, err := a.fronts.EnsureImage(ctx)
	return wire.FrontImage{Image: tag, Dir: a.fronts.dir}, err
}

// Metrics answers with the agent's metrics.
func (a *Agent) Metrics() http.Handler { return a.metrics.Handler() }
