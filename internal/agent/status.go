package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Status tells what is, as it was observed for this very call; the current versions
// are those of the last polls.
func (a *Agent) Status(ctx context.Context) (wire.Status, error) {
	queue := a.controller.Queue()
	st := wire.Status{
		SchemaVersion: wire.JSONVersion,
		Runtime: wire.RuntimeStatus{
			Mode: a.settings.mode(), Version: a.cfg.Version, StartTime: a.started.UTC(), Uptime: time.Since(a.started).Round(time.Second).String(),
		},
		AgentReached: true,
		Providers:    a.providerStatus(ctx),
		Rotations:    a.rotationStatus(),
		Queue:        &queue,
		AuditHead:    a.audit.Head(),
	}
	var err error
	if st.Containers, err = looked(ctx, a.controller.Status); err != nil {
		return st, err
	}
	if st.Fronts, err = looked(ctx, a.frontStatus); err != nil {
		return st, err
	}
	if file, problems := a.settings.rejected(); len(problems) > 0 {
		st.Configuration = &wire.RejectedConfiguration{File: file, Problems: problems}
	}
	st.Secrets, st.Cache = a.secretStatus(ctx, st.Containers)
	st.Health, st.Reasons = healthOf(st)
	return st, nil
}

// healthOf judges what was observed. What changes over, or waits for its window, is
// as it should be.
func healthOf(st wire.Status) (health string, reasons []string) {
	critical := false
	for _, r := range st.Rotations.Open {
		if r.NeedsPerson {
			critical = true
			reasons = append(reasons, fmt.Sprintf("rotation of %s needs a person: %s", r.Container, r.Error))
		}
	}
	if c := st.Configuration; c != nil {
		reasons = append(reasons, c.File+" cannot be used, the last good configuration holds")
	}
	for _, p := range st.Providers {
		if p.Status != "ok" && p.Secrets > 0 { // one that nobody needs keeps nobody from anything
			reasons = append(reasons, fmt.Sprintf("provider %s: %s", p.Name, p.Message))
		}
	}
	for _, f := range st.Fronts {
		if why := f.Wrong(); f.Needed && why != "" {
			reasons = append(reasons, why)
		}
	}
	for _, c := range st.Containers {
		switch {
		case c.Error != "":
			reasons = append(reasons, fmt.Sprintf("container %s: %s", c.Name, c.Error))
		case c.Stale != nil:
			reasons = append(reasons, fmt.Sprintf("container %s has values of before: %s", c.Name, c.Stale.Cause))
		case c.Pin != nil && len(c.Pin.Failed) > 0 && !c.UpToDate:
			reasons = append(reasons, fmt.Sprintf("container %s is pinned: it did not work with the current versions", c.Name))
		case !c.UpToDate && c.Rotation == nil && c.Held == "":
			reasons = append(reasons, fmt.Sprintf("container %s does not have the current versions", c.Name))
		case c.Health == "unhealthy":
			reasons = append(reasons, fmt.Sprintf("container %s is unhealthy", c.Name))
		}
	}
	switch {
	case critical:
		return wire.Critical, reasons
	case len(reasons) > 0:
		return wire.Degraded, reasons
	}
	return wire.Healthy, nil
}

// secretStatus tells of each secret that a container uses, and how many are known.
func (a *Agent) secretStatus(ctx context.Context, containers []wire.ContainerStatus) ([]wire.SecretStatus, *wire.CacheStatus) {
	users := map[string][]string{}
	for _, c := range containers {
		for _, id := range c.Uses {
			users[id] = append(users[id], c.Name)
		}
	}
	made := map[string]wire.SecretInfo{}
	if infos, err := a.List(ctx); err == nil {
		for _, i := range infos {
			made[i.Name] = i
		}
	}
	given := a.deliveries.FirstGiven()
	rows, cache := []wire.SecretStatus{}, &wire.CacheStatus{}
	for _, k := range a.settings.watch.Secrets() {
		row := wire.SecretStatus{
			Secret: k.ID.String(), Provider: k.ID.Provider, Version: string(k.Version), Since: k.Since.UTC(), Checked: k.Checked.UTC(), NextPoll: k.Next.UTC(),
			UsedBy: append([]string{}, users[k.ID.String()]...),
		}
		for _, at := range []*time.Time{&row.Since, &row.Checked, &row.NextPoll} {
			if at.Unix() <= 0 {
				*at = time.Time{}
			}
		}
		// It may have been delivered before this agent heard of it.
		if at, known := given[deliver.Given{Secret: k.ID, Version: k.Version}]; known && at.Before(row.Since) {
			row.Since = at
		}
		if info, ok := made[k.ID.Path]; ok && k.ID.Provider == secret.DefaultProvider && info.Version == row.Version {
			row.Since = info.Created.UTC()
		}
		if k.Err != nil {
			row.Error = k.Err.Error()
		}
		if k.Version != "" {
			cache.Entries++
			row.Age = time.Since(row.Since).Round(time.Second).String()
		}
		rows = append(rows, row)
	}
	return rows, cache
}

// Container describes one container with its references.
func (a *Agent) Container(ctx context.Context, req wire.ContainerRequest) (wire.ContainerDetail, error) {
	d, err := looked(ctx, func(ctx context.Context) (wire.ContainerDetail, error) {
		return a.controller.Detail(ctx, req.Container)
	})
	if errors.Is(err, reconcile.ErrNoContainer) {
		return d, &api.Error{
			Code: wire.CodeNotFound, Err: fmt.Errorf("no container that uses references is named %q", req.Container),
			Hint: "docker dso status lists those that do",
		}
	}
	return d, err
}

// SecretUsers tells which containers use a secret.
func (a *Agent) SecretUsers(ctx context.Context, req wire.NameRequest) (wire.SecretUsers, error) {
	id, err := secret.ParseName(req.Name, req.Project, a.resolver.Providers().Has)
	if err != nil {
		return wire.SecretUsers{}, vaultError(err)
	}
	users := wire.SecretUsers{SchemaVersion: wire.JSONVersion, Secret: id.String()}
	for _, k := range a.settings.watch.Secrets() {
		if k.ID == id {
			users.Version = string(k.Version)
		}
	}
	users.Users, err = looked(ctx, func(ctx context.Context) ([]wire.SecretUser, error) { return a.controller.Uses(ctx, id) })
	return users, err
}

func (a *Agent) providerStatus(ctx context.Context) []wire.ProviderStatus {
	var local wire.ProviderStatus
	var rows []wire.ProviderStatus
	for _, st := range a.settings.watch.Status() {
		if st.Name != secret.DefaultProvider {
			rows = append(rows, providerRow(st))
			continue
		}
		local = providerRow(st)
		local.Status, local.Message = "ok", ""
		if _, err := a.List(ctx); err != nil { // it can be asked for more than how the last call went
			local.Status, local.Message = "error", err.Error()
		}
	}
	return append([]wire.ProviderStatus{local}, rows...)
}

func (a *Agent) rotationStatus() wire.RotationStatus {
	var st wire.RotationStatus
	if w := a.settings.window(); w.Limits() {
		opens := w.Opens(time.Now())
		st.Window = &wire.RotationWindow{Cron: w.Cron, Duration: w.Length.String(), Open: opens.IsZero(), Opens: opens}
	}
	totals := a.history.Totals()
	st.Successful, st.Failed = totals.Successful, totals.Failed
	for _, e := range a.journal.Unfinished() {
		st.Open = append(st.Open, reconcile.Open(e))
		if e.Pending() {
			st.Pending++
		} else {
			st.Failed++
		}
	}
	if totals.Successful > 0 {
		mean := totals.Seconds / float64(totals.Successful)
		st.AvgTime = time.Duration(mean * float64(time.Second)).Round(time.Millisecond).String()
	}
	return st
}

// open tells of what is not over, for a scrape.
func (a *Agent) open() metrics.Open {
	var now metrics.Open
	for _, e := range a.journal.Unfinished() {
		if e.Pending() {
			now.Pending++
		} else {
			now.NeedPerson++
		}
		if now.Oldest.IsZero() || e.StartTime.Before(now.Oldest) {
			now.Oldest = e.StartTime
		}
	}
	now.Pinned = a.deliveries.PinnedAfterFailure()
	return now
}
