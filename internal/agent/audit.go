package agent

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// openAudit opens the record of who got what. An agent that cannot keep one works on,
// for its containers, and shows no value to a person until it can.
func (a *Agent) openAudit() {
	log, problem, err := audit.Open(a.state("audit"), audit.Options{Meddled: func(err error) {
		a.metrics.Agent.AuditFailures.Inc()
		a.log.Error("somebody changed the audit log, which goes on in a new file", "error", err)
	}})
	if err != nil {
		a.log.Error("the audit log cannot be written: no value is shown to a person", "error", err)
	}
	if problem != nil {
		a.log.Error("the audit log was found broken and goes on in a new file", "error", problem)
	}
	a.audit = log
}

// note records what happened. Who asked is in the context; without anybody it is the
// agent itself.
func (a *Agent) note(ctx context.Context, r audit.Record) error {
	r.Who = audit.ByAgent
	if who, known := api.CallerOf(ctx); known {
		r.Who = audit.Who{UID: who.UID, PID: who.PID, User: author(who)}
	}
	err := a.audit.Append(r)
	if err != nil {
		a.metrics.Agent.AuditFailures.Inc()
		a.log.Error("audit record not written", "what", r.What, "secret", r.Secret, "error", err)
		return err
	}
	a.metrics.Agent.AuditRecords.Inc()
	return nil
}

// noteSecret records what somebody did with a secret of the vault, or was refused.
func (a *Agent) noteSecret(ctx context.Context, what audit.What, req wire.NameRequest, version string, failed error) error {
	id, err := a.vault.ID(req.Name, req.Project)
	if err != nil {
		id = secret.ID{Path: req.Name} // as it was typed
	}
	return a.noteID(ctx, what, id, version, failed)
}

func (a *Agent) noteID(ctx context.Context, what audit.What, id secret.ID, version string, failed error) error {
	r := audit.Record{What: what, Version: version, Secret: idText(id)}
	if failed != nil {
		r.What, r.Why = audit.Refuse, string(what)+": "+failed.Error()
	}
	return a.note(ctx, r)
}

// Denied records a call that the caller may not make.
func (a *Agent) Denied(who api.Caller, call string) {
	err := a.audit.Append(audit.Record{
		What: audit.Refuse, Who: audit.Who{UID: who.UID, PID: who.PID, User: author(who)}, Why: "may not " + call,
	})
	if err != nil {
		a.metrics.Agent.AuditFailures.Inc()
		a.log.Error("audit record not written", "what", audit.Refuse, "error", err)
	}
}

// noteStart records what a container was given, or that it was refused.
func (a *Agent) noteStart(ctx context.Context, req wire.DeliverRequest, failed error) {
	why := "start"
	if req.Exec {
		why = "exec"
	}
	r := audit.Record{What: audit.Deliver, Container: a.placeOf(req), ID: engine.ShortID(req.ContainerID), Why: why}
	if failed == nil {
		versions, _, _ := a.deliveries.Delivered(req.ContainerID)
		a.noteVersions(ctx, r, versions)
		return
	}
	r.What, r.Why = audit.Refuse, why+": "+failed.Error()
	asked := secret.Versions{} // which versions it would have been is not known
	for _, ref := range req.References {
		if parsed, err := secret.ParseRef(ref.Ref); err == nil {
			asked[parsed.In(req.Project, a.resolver.Providers().Has)] = ""
		}
	}
	if len(asked) == 0 {
		_ = a.note(ctx, r)
	}
	a.noteVersions(ctx, r, asked)
}

// placeOf is the name under which a container is known. A replacement has a name of its own
// until it has taken the original's.
func (a *Agent) placeOf(req wire.DeliverRequest) string {
	for _, e := range a.journal.Pending() {
		if e.NewContainerID == req.ContainerID || e.NewName == req.Name {
			return e.ContainerName
		}
	}
	return req.Name
}

// noteRotation records how a rotation ended.
func (a *Agent) noteRotation(e rotation.Entry) {
	r := audit.Record{
		What: audit.Rotate, Container: e.ContainerName, ID: engine.ShortID(e.Serving()), Why: e.Cause, Outcome: string(e.Outcome),
	}
	versions := e.To
	if e.Outcome != rotation.OutcomeRotated && e.Outcome != rotation.OutcomeAdopted {
		r.Why += "; " + e.ErrorMessage
	}
	a.noteVersions(context.Background(), r, versions)
}

// noteVersions makes a record for each secret.
func (a *Agent) noteVersions(ctx context.Context, r audit.Record, versions secret.Versions) {
	for _, id := range slices.SortedFunc(maps.Keys(versions), secret.ID.Compare) {
		r.Secret, r.Version = id.String(), string(versions[id])
		_ = a.note(ctx, r)
	}
}

// observe is told of every step of a rotation.
func (a *Agent) observe(p rotation.Progress) {
	a.hub.publish(p)
	a.tracer.Observe(p)
	if p.Outcome == "" {
		return
	}
	for _, e := range a.journal.All() {
		if e.Key() == p.Key && e.ID == p.RotationID {
			a.metrics.Rotations.End(string(e.Strategy), string(e.Outcome), e.LastUpdate.Sub(e.StartTime), e.Recovered)
			a.noteRotation(e)
			a.remember(e)
		}
	}
}

// errUnrecorded is why a value is not shown.
var errUnrecorded = errors.New("the audit log cannot be written, and no value is shown without a record")
