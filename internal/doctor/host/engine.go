package host

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// The labels of Compose.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneoff  = "com.docker.compose.oneoff"
)

// open returns a client of the engine. It does not connect.
func (h Host) open() (*client.Client, error) {
	opts := []client.Opt{client.FromEnv}
	if h.Engine != "" {
		opts = append(opts, client.WithHost(h.Engine))
	}
	return client.New(opts...)
}

func (h Host) engine(ctx context.Context) doctor.Engine {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	api, err := h.open()
	if err != nil {
		return doctor.Engine{Err: err.Error()}
	}
	defer func() { _ = api.Close() }()
	e := doctor.Engine{Socket: api.DaemonHost(), Runtimes: map[string]doctor.Runtime{}}
	asked := time.Now()
	info, err := api.Info(ctx, client.InfoOptions{})
	if err != nil {
		e.Err = err.Error()
		return e
	}
	if at, err := time.Parse(time.RFC3339Nano, info.Info.SystemTime); err == nil {
		e.Offset = at.Sub(asked.Add(time.Since(asked) / 2))
	}
	e.Version, e.Root, e.DefaultRuntime = info.Info.ServerVersion, info.Info.DockerRootDir, info.Info.DefaultRuntime
	if v, err := api.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
		e.API = v.APIVersion
	}
	for name, r := range info.Info.Runtimes {
		e.Runtimes[name] = doctor.Runtime{Path: r.Path, Err: runnable(ctx, name, r.Path)}
	}
	list, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		e.Err = err.Error()
		return e
	}
	for _, item := range list.Items {
		if c, ok := h.container(ctx, api, item); ok {
			e.Containers = append(e.Containers, c)
		}
	}
	return e
}

// runnable says why a runtime of ours cannot be started: asked for its version it
// becomes the real one, and so has to find that too.
func runnable(ctx context.Context, name, path string) string {
	if name != "dso" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err == nil {
		return ""
	}
	if said := strings.TrimSpace(string(out)); said != "" {
		return said
	}
	return err.Error()
}

// container looks at one container. One that an engine just starts does not answer: it
// is left out.
func (h Host) container(ctx context.Context, api *client.Client, item container.Summary) (doctor.Container, bool) {
	if item.Labels[labelOneoff] == "True" {
		return doctor.Container{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	res, err := api.ContainerInspect(ctx, item.ID, client.ContainerInspectOptions{})
	if err != nil || res.Container.Config == nil || res.Container.HostConfig == nil || res.Container.State == nil {
		return doctor.Container{}, false
	}
	r := res.Container
	c := doctor.Container{
		ID: r.ID, Name: strings.TrimPrefix(r.Name, "/"), State: string(r.State.Status), Error: r.State.Error, Runtime: r.HostConfig.Runtime,
		Project: item.Labels[labelProject], Service: item.Labels[labelService], Number: item.Labels[labelNumber],
		Rotation: item.Labels[label.Rotation], FrontOf: item.Labels[label.FrontService], RestartCount: r.RestartCount,
	}
	if r.State.Health != nil {
		c.Health = string(r.State.Health.Status)
	}
	for _, kv := range r.Config.Env {
		if _, value, _ := strings.Cut(kv, "="); secret.IsRef(value) {
			c.References++
		}
	}
	return c, true
}

// agents finds the processes of this host that are agents.
func agents() []doctor.Process {
	var found []doctor.Process
	for _, p := range processes() {
		if len(p.Args) == 0 || !strings.HasSuffix("/"+p.Args[0], "/dso-agent") {
			continue
		}
		if sameMounts(p.PID) {
			found = append(found, p)
		}
	}
	return found
}

// sameMounts reports whether a process sees the files that we see: one in a container,
// or on a private engine, has a state of its own.
func sameMounts(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	theirs, err2 := os.Readlink(procPath(pid, "ns/mnt"))
	return err == nil && (err2 != nil || ours == theirs)
}
