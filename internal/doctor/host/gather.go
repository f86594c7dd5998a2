package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/private"
)

// Host says where things are. The zero value of a directory is the product's own.
type Host struct {
	Agent    *client.Client
	Socket   string // of the agent
	Engine   string // address of the engine; empty: DOCKER_HOST or the default
	StateDir string
	RunDir   string
	Config   string // the file that was named; empty: the usual places
	Docker   string // the docker command
	Version  string
}

// each part of a look is given this much time: what hangs is itself a finding.
const patience = 10 * time.Second

func (h Host) withDefaults() Host {
	if h.StateDir == "" {
		h.StateDir = "/var/lib/dso"
	}
	if h.RunDir == "" {
		h.RunDir = filepath.Dir(wire.AgentSocket)
	}
	if h.Docker == "" {
		h.Docker = "docker"
	}
	return h
}

// Gather looks at everything.
func (h Host) Gather(ctx context.Context) doctor.Facts {
	h = h.withDefaults()
	f := doctor.Facts{Now: time.Now(), Version: h.Version, Root: os.Geteuid() == 0}
	f.Agent = h.agent(ctx)
	f.Engine = h.engine(ctx)
	f.Systemd = systemd(ctx)
	f.ByEngine = h.byEngine(ctx)
	f.Config = h.config()
	f.State = h.state()
	f.Locks, f.LocksUnseen = h.locks()
	f.Paths = h.paths(f.Config.File)
	f.Disks = disks(h.StateDir, h.RunDir, f.Engine.Root)
	f.Clock = clock()
	f.Tmpfs = tmpfs(filepath.Join(h.RunDir, filepath.Base(private.Dir)))
	f.Compose = h.compose(ctx)
	f.Audit = h.audit(f.Agent.Status.AuditHead)
	return f
}

func (h Host) agent(ctx context.Context) doctor.Agent {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := doctor.Agent{Socket: h.Socket, Processes: agents()}
	if err := h.Agent.Call(ctx, "GET", "/v1/status", nil, &a.Status); err != nil {
		a.Err, a.Denied = err.Error(), errors.Is(err, client.ErrDenied)
		return a
	}
	a.Reached = true
	a.Fronts = a.Status.Fronts
	if err := h.Agent.Call(ctx, "GET", "/v1/legacy", nil, &a.Leftovers); err != nil {
		a.PartErr = err.Error()
	}
	return a
}

func (h Host) config() doctor.Config {
	path, err := config.Find(h.Config)
	if errors.Is(err, config.ErrNone) && h.Config == "" {
		return doctor.Config{}
	}
	c := doctor.Config{File: path}
	if err == nil {
		_, err = config.Load(path)
	}
	var bad *config.Error
	switch {
	case errors.As(err, &bad):
		for _, p := range bad.Problems {
			c.Problems = append(c.Problems, p.String())
		}
	case err != nil:
		c.Problems = append(c.Problems, err.Error())
	}
	return c
}

// audit verifies the log, and that it holds what the agent wrote last.
func (h Host) audit(head string) doctor.Audit {
	rep, err := audit.Verify(filepath.Join(h.StateDir, "audit"), head)
	if err != nil {
		return doctor.Audit{Err: err.Error()}
	}
	a := doctor.Audit{Records: rep.Records, Torn: rep.Torn}
	for _, p := range rep.Problems {
		a.Problems = append(a.Problems, p.String())
	}
	return a
}
