package cli

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
)

// diffReport is the JSON of docker dso diff.
type diffReport struct {
	SchemaVersion int          `json:"schema_version"`
	Differences   []difference `json:"differences"`
}

// difference is one thing that is specified in one way and runs in another.
type difference struct {
	Container string `json:"container,omitempty"`
	Service   string `json:"service,omitempty"`
	What      string `json:"what"`
	Specified string `json:"specified,omitempty"`
	Runs      string `json:"runs,omitempty"`
	Note      string `json:"note,omitempty"`
}

// differences compares the containers with the current versions, and those of the
// project of the working directory with its Compose file. name restricts it to one
// container.
func (a *app) differences(ctx context.Context, name string) ([]difference, error) {
	st, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	rows := []difference{}
	var running []wire.ContainerDetail
	for _, c := range st.Containers {
		if name != "" && c.Name != name && c.ID != name {
			continue
		}
		rows = append(rows, versionDifferences(c)...)
		d, err := a.detail(ctx, c.Name)
		if ExitCode(err) == ExitNotFound && err != nil {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		running = append(running, d)
	}
	if name != "" && len(running) == 0 {
		return nil, noContainer(name)
	}
	p, err := loadProject(ctx, compose.Options{})
	if errors.Is(err, compose.ErrNoFile) {
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	return append(rows, projectDifferences(p, running, name == "")...), nil
}

// versionDifferences says which versions a container does not have.
func versionDifferences(c wire.ContainerStatus) []difference {
	var rows []difference
	if c.State != "running" {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(c.Wants)) {
		if c.Has[id] != c.Wants[id] {
			rows = append(rows, difference{
				Container: c.Name, What: c.Name + ": version of " + id, Specified: c.Wants[id], Runs: c.Has[id], Note: nowText(c),
			})
		}
	}
	return rows
}

// projectDifferences compares a project's services with what runs of them. all says
// that everything that runs is known: what is not there does not run.
func projectDifferences(p *compose.Project, running []wire.ContainerDetail, all bool) []difference {
	var rows []difference
	for _, s := range p.Services() {
		if len(s.References) == 0 {
			continue
		}
		specified := map[string]string{}
		for _, r := range s.References {
			specified[r.Variable] = r.Ref.String()
		}
		found := false
		for _, d := range running {
			if d.Project == p.Name && d.Service == s.Name {
				found = true
				rows = append(rows, referenceDifferences(s.Name, specified, d)...)
			}
		}
		if !found && all {
			rows = append(rows, difference{
				Service: s.Name, What: "service " + s.Name, Specified: "uses references", Note: "no container of it runs with the runtime dso: docker dso up -d",
			})
		}
	}
	return rows
}

func referenceDifferences(service string, specified map[string]string, d wire.ContainerDetail) []difference {
	runs := map[string]string{}
	for _, r := range d.References {
		if !r.Target {
			runs[r.Variable] = r.Reference
		}
	}
	var rows []difference
	both := maps.Clone(specified)
	maps.Copy(both, runs)
	for _, variable := range slices.Sorted(maps.Keys(both)) {
		if specified[variable] != runs[variable] {
			rows = append(rows, difference{
				Container: d.Name, Service: service, What: d.Name + ": variable " + variable,
				Specified: specified[variable], Runs: runs[variable], Note: "docker dso up -d makes it anew",
			})
		}
	}
	return rows
}
