package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Rotate brings what the request names up to date, telling the steps.
func (a *Agent) Rotate(ctx context.Context, req wire.RotateRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	target := reconcile.Target{Container: req.Container, Force: req.Force, Cause: req.Cause}
	if req.Secret != "" {
		id, err := secret.ParseName(req.Secret, req.Project, a.resolver.Providers().Has)
		if err != nil {
			return nil, err
		}
		target.Secret = id
	}
	steps, stop := a.hub.subscribe()
	defer stop()
	type answer struct {
		results []reconcile.Result
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		results, err := a.controller.Sync(ctx, target)
		done <- answer{results, err}
	}()
	for {
		select {
		case p := <-steps:
			if p.Container == target.Container || p.About(target.Secret) {
				tell(wireStep(p))
			}
		case ans := <-done:
			for len(steps) > 0 {
				if p := <-steps; p.Container == target.Container || p.About(target.Secret) {
					tell(wireStep(p))
				}
			}
			if errors.Is(ans.err, reconcile.ErrNoContainer) {
				return nil, fmt.Errorf("no running container that uses references is named %q", req.Container)
			}
			return wireResults(ans.results), ans.err
		}
	}
}

func wireStep(p rotation.Progress) wire.RotateStep {
	return wire.RotateStep{
		Rotation: p.RotationID, Container: p.Container, Strategy: string(p.Strategy), Step: string(p.Step),
		Back: p.Back, Outcome: string(p.Outcome), Detail: p.Detail, Time: p.Time,
	}
}

func wireResults(results []reconcile.Result) []wire.RotateResult {
	out := make([]wire.RotateResult, 0, len(results))
	for _, r := range results {
		out = append(out, wire.RotateResult{
			Container: r.Container, Strategy: string(r.Strategy), Reasons: r.Reasons, Outcome: string(r.Outcome), Error: r.Error,
		})
	}
	return out
}

// Status tells what is, as it was observed for this very call.
func (a *Agent) Status(ctx context.Context) (wire.Status, error) {
	st := wire.Status{
		Runtime: wire.RuntimeStatus{
			Mode: "local", Version: a.cfg.Version, StartTime: a.started.UTC(), Uptime: time.Since(a.started).Round(time.Second).String(),
		},
		AgentReached: true,
		Providers:    a.providerStatus(ctx),
		Rotations:    a.rotationStatus(),
		Health:       "healthy",
	}
	var err error
	if st.Containers, err = a.controller.Status(ctx); err != nil {
		return st, err
	}
	for _, c := range st.Containers {
		if c.Error != "" || !c.UpToDate {
			st.Health = "degraded"
		}
	}
	for _, p := range st.Providers {
		if p.Status != "ok" {
			st.Health = "degraded"
		}
	}
	return st, nil
}

func (a *Agent) providerStatus(ctx context.Context) []wire.ProviderStatus {
	p := wire.ProviderStatus{Name: secret.DefaultProvider, Status: "ok"}
	if _, err := a.List(ctx); err != nil {
		p.Status, p.Message = "error", err.Error()
	}
	return []wire.ProviderStatus{p}
}

func (a *Agent) rotationStatus() wire.RotationStatus {
	var st wire.RotationStatus
	var total time.Duration
	for _, e := range a.journal.All() {
		switch {
		case e.Pending():
			st.Pending++
		case e.Outcome == rotation.OutcomeRotated:
			st.Successful++
			total += e.LastUpdate.Sub(e.StartTime)
		default:
			st.Failed++
		}
	}
	if st.Successful > 0 {
		st.AvgTime = (total / time.Duration(st.Successful)).Round(time.Millisecond).String()
	}
	return st
}

// Rotations lists what the journal remembers, oldest first.
func (a *Agent) Rotations(context.Context) ([]wire.Rotation, error) {
	rows := []wire.Rotation{}
	for _, e := range a.journal.All() {
		rows = append(rows, wire.Rotation{
			Key: e.Key(), ID: e.ID, Container: e.ContainerName, Secret: e.SecretName, Strategy: string(e.Strategy),
			Status: string(e.Status), Step: string(e.Step), Outcome: string(e.Outcome), Cause: e.Cause, Error: e.ErrorMessage,
			Started: e.StartTime, Updated: e.LastUpdate,
		})
	}
	return rows, nil
}

// FrontImage makes sure that the engine has the image of the fronts.
func (a *Agent) FrontImage(ctx context.Context) (wire.FrontImage, error) {
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
	tag, err := a.fronts.EnsureImage(ctx)
	return wire.FrontImage{Image: tag, Dir: a.fronts.dir}, err
}
