package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/test/search"
)

// Container is one of the engine's list.
type Container struct {
	ID     string `json:"Id"`
	Names  []string
	State  string
	Status string
	Labels map[string]string
}

// Name is the container's own name.
func (c *Container) Name() string {
	for _, n := range c.Names {
		if name := strings.TrimPrefix(n, "/"); !strings.Contains(name, "/") { // with a slash: a link of another one
			return name
		}
	}
	return ""
}

// Containers lists all containers, running or not.
func (l *Lab) Containers(ctx context.Context) (all []Container, err error) {
	return all, l.Get(ctx, "/containers/json", url.Values{"all": {"1"}}, &all)
}

// Status is what dso status --json says.
func (l *Lab) Status(ctx context.Context) (st wire.Status, err error) {
	return st, l.ask(ctx, &st, "status")
}

// Rotations is what dso rotations --json says, oldest first.
func (l *Lab) Rotations(ctx context.Context) (rows []wire.Rotation, err error) {
	return rows, l.ask(ctx, &rows, "rotations")
}

// ask runs the program under its own name, not as docker's plugin: docker runs a plugin
// twice. That something is not as it should be is no error, see [Lab.DSO].
func (l *Lab) ask(ctx context.Context, into any, command string) error {
	out, err := l.Command(ctx, "dso", command, "--json").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != Unhealthy) {
		return fmt.Errorf("dso %s --json: %w: %s", command, err, out)
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("dso %s --json: %w: %s", command, err, out)
	}
	return nil
}

// CheckWithin names everything that is not as it must be while no rotation goes on and
// an agent runs: each of the names is one healthy container with the versions
// that are wanted or pinned, and nothing else of ours is left on the host. What a rotation
// leaves may take a while to become true.
func (l *Lab) CheckWithin(ctx context.Context, settle time.Duration, names ...string) ([]string, error) {
	deadline := time.After(settle)
	for {
		wrong, err := l.check(ctx, names)
		if err != nil || len(wrong) == 0 {
			return wrong, err
		}
		select {
		case <-deadline:
			return wrong, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *Lab) check(ctx context.Context, names []string) ([]string, error) {
	all, err := l.Containers(ctx)
	if err != nil {
		return nil, err
	}
	wrong := placesWrong(all, names)
	// The agent itself is asked, which dso status does too: a look must cost little.
	var st wire.Status
	if err := client.New(l.HostPath("/run/dso/dso.sock")).Call(ctx, http.MethodGet, "/v1/status", nil, &st); err != nil {
		return nil, err
	}
	wrong = append(wrong, versionsWrong(st, names)...)
	kept, err := l.keptWrong(all)
	if err != nil {
		return nil, err
	}
	wrong = append(wrong, kept...)
	if len(wrong) > 0 {
		return wrong, nil
	}
	left, err := l.leftBy(all)
	if err != nil || len(left) > 0 {
		return left, err
	}
	return l.sick(ctx, all, names), nil
}

func placesWrong(all []Container, names []string) []string {
	var wrong []string
	for _, name := range names {
		i := slices.IndexFunc(all, func(c Container) bool { return c.Name() == name })
		switch {
		case i < 0:
			wrong = append(wrong, name+" is missing")
		case all[i].State != "running" || !strings.Contains(all[i].Status, "(healthy)") && !strings.Contains(all[i].Status, notYet):
			wrong = append(wrong, fmt.Sprintf("%s is %s: %s", name, all[i].State, all[i].Status))
		}
	}
	for _, c := range all {
		if _, made := c.Labels["dso.rotation"]; made && !slices.Contains(names, c.Name()) {
			wrong = append(wrong, "container "+c.Name()+" was made by a rotation and has no place")
		}
	}
	return wrong
}

// notYet is in the status of a container whose health check the engine has not come to.
const notYet = "(health: starting)"

// sick runs the health check itself where the engine has not come to it yet.
func (l *Lab) sick(ctx context.Context, all []Container, names []string) []string {
	var wrong []string
	for _, c := range all {
		if !slices.Contains(names, c.Name()) || !strings.Contains(c.Status, notYet) {
			continue
		}
		if err := l.healthy(ctx, c.ID); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s is not healthy: %v", c.Name(), err))
		}
	}
	return wrong
}

func (l *Lab) healthy(ctx context.Context, id string) error {
	var c struct {
		Config struct{ Healthcheck struct{ Test []string } }
	}
	if err := l.Get(ctx, "/containers/"+id+"/json", nil, &c); err != nil {
		return err
	}
	test := c.Config.Healthcheck.Test
	if len(test) < 2 || test[0] != "CMD" {
		return fmt.Errorf("its health check is %q", test)
	}
	_, err := l.Exec(ctx, id, test[1:]...)
	return err
}

func versionsWrong(st wire.Status, names []string) []string {
	var wrong []string
	for _, c := range st.Containers {
		if slices.Contains(names, c.Name) && !c.UpToDate && !c.Pinned {
			wrong = append(wrong, fmt.Sprintf("%s has %v, wants %v and is not pinned", c.Name, c.Has, c.Wants))
		}
	}
	if st.Rotations.Pending > 0 {
		wrong = append(wrong, fmt.Sprintf("%d rotations are pending", st.Rotations.Pending))
	}
	return wrong
}

// keptWrong looks at what is kept for containers: nothing for one that is gone,
// no pin but after a rollback, no mount but the one tmpfs.
func (l *Lab) keptWrong(all []Container) ([]string, error) {
	lives := func(id string) bool {
		return slices.ContainsFunc(all, func(c Container) bool { return c.ID == id })
	}
	var wrong []string
	for _, dir := range []string{"/run/dso/private/files", "/run/dso/private/env", "/run/dso/private/delivered", "/var/lib/dso/sealed/sets"} {
		found, err := os.ReadDir(l.HostPath(dir))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if id := strings.TrimSuffix(f.Name(), ".json"); !lives(id) {
				wrong = append(wrong, filepath.Join(dir, f.Name())+" is kept for nobody")
			}
		}
	}
	pins, err := l.Pins()
	if err != nil {
		return nil, err
	}
	for id, failed := range pins {
		if !lives(id) || !failed {
			wrong = append(wrong, "pin of "+id)
		}
	}
	mounts, err := os.ReadFile(filepath.Join(filepath.Dir(l.HostPath("/")), "mounts"))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(mounts), " /run/dso"); n > 1 {
		wrong = append(wrong, fmt.Sprintf("%d mounts below /run/dso", n))
	}
	return wrong, nil
}

// Pins are the ids of the containers that are pinned, and whether that is because
// a version failed.
func (l *Lab) Pins() (map[string]bool, error) {
	data, err := os.ReadFile(l.HostPath("/var/lib/dso/state/pins.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pins map[string]struct {
		Failed map[string]any `json:"failed"`
	}
	if err := json.Unmarshal(data, &pins); err != nil {
		return nil, fmt.Errorf("pins.json: %w", err)
	}
	out := map[string]bool{}
	for id, p := range pins {
		out[id] = len(p.Failed) > 0
	}
	return out, nil
}

// OnDisk names the files of the host, of those that were changed since, that hold a value. The
// private tmpfs is no disk, and the one place that may.
func (l *Lab) OnDisk(value string, since time.Time) []string {
	needles := search.Needles(value)
	var found []string
	for _, dir := range []string{
		filepath.Join(l.Engine.Dir(), "data"), filepath.Join(l.Engine.Dir(), "exec"), filepath.Join(l.Engine.Dir(), "home"),
		l.LogFile(), l.DaemonConfigFile(), l.HostPath("/etc/dso"), l.HostPath("/var/lib/dso"), l.HostPath("/run"), l.AgentLog(),
	} {
		found = append(found, search.Below(dir, since, needles, l.HostPath("/run/dso/private"))...)
	}
	return found
}
