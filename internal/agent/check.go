package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Pause keeps rotations from beginning in a Compose project, as the controller does.
func (a *Agent) Pause(ctx context.Context, project string) (resume func(), err error) {
	if resume, err = a.controller.Pause(ctx, project); err == nil {
		a.log.Debug("rotations are paused", "project", project)
	}
	return resume, err
}

// checkFor bounds the check of one reference: somebody waits for it, and a store may ask
// to wait for a day.
const checkFor = 30 * time.Second

// Check tells for each reference whether it can be resolved now, and to which version.
// What it means lies within the configured providers; no value leaves the agent.
func (a *Agent) Check(ctx context.Context, req wire.CheckRequest) ([]wire.CheckResult, error) {
	results := make([]wire.CheckResult, 0, len(req.References))
	for _, text := range req.References {
		results = append(results, a.check(ctx, req.Project, text))
	}
	return results, ctx.Err()
}

func (a *Agent) check(ctx context.Context, project, text string) wire.CheckResult {
	res := wire.CheckResult{Reference: text}
	ref, err := secret.ParseRef(text)
	if err != nil {
		res.Error, res.Code = err.Error(), wire.CodeInvalid
		return res
	}
	id := a.resolver.IDs(project, []secret.Ref{ref})[0]
	res.Secret = id.String()
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	snap, err := a.resolver.Snapshot(ctx, project, []resolve.Variable{{Name: "the check", Ref: ref}}, nil, nil)
	if err != nil {
		res.Error = err.Error()
		if errors.Is(err, provider.ErrNotFound) {
			res.Code, res.Hint = wire.CodeNotFound, missingHint(id)
		}
		return res
	}
	res.Version = string(snap.Versions[id])
	return res
}

// missingHint is for a secret that its store does not have.
func missingHint(id secret.ID) string {
	if id.Provider == secret.DefaultProvider {
		return "docker dso secret list shows what the local vault has"
	}
	return "the provider " + id.Provider + " of dso.yaml was asked for " + id.Path + ": look there, or correct the path"
}
