package hostsetup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Engine is the host's Docker Engine, as far as a setup asks it.
type Engine interface {
	// Info describes the engine; the error wraps [ErrEngineAway] when nobody answers.
	Info(ctx context.Context) (Info, error)
	// Runtimes returns the runtime of each container, by name.
	Runtimes(ctx context.Context) (map[string]string, error)
}

// Info is what the engine says of itself.
type Info struct {
	Version  string            `json:"version"`
	OS       string            `json:"os"`
	DataRoot string            `json:"data_root"`
	Security []string          `json:"security,omitempty"`
	Runtimes map[string]string `json:"runtimes"` // their paths
	Default  string            `json:"default_runtime"`
}

// ErrEngineAway says that no engine answers.
var ErrEngineAway = errors.New("the engine does not answer")

// Socket is an engine's API on a unix socket. The few calls here need no client
// library: the command line is not to grow by one.
type Socket string

// DefaultSocket is where the engine of a host listens.
const DefaultSocket Socket = "/var/run/docker.sock"

const engineTimeout = 30 * time.Second

func (s Socket) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", string(s))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return err
	}
	c := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%w on %s: %w", ErrEngineAway, string(s), err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("ask the engine for %s: %s: %s", path, resp.Status, bytes.TrimSpace(said))
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Info implements [Engine].
func (s Socket) Info(ctx context.Context) (Info, error) {
	var raw struct {
		ServerVersion, OperatingSystem, DockerRootDir, DefaultRuntime string
		SecurityOptions                                               []string
		Runtimes                                                      map[string]struct{ Path string }
	}
	if err := s.get(ctx, "/info", &raw); err != nil {
		return Info{}, err
	}
	info := Info{
		Version: raw.ServerVersion, OS: raw.OperatingSystem, DataRoot: raw.DockerRootDir, Security: raw.SecurityOptions,
		Default: raw.DefaultRuntime, Runtimes: map[string]string{},
	}
	for name, r := range raw.Runtimes {
		info.Runtimes[name] = r.Path
	}
	return info, nil
}

// Runtimes implements [Engine].
func (s Socket) Runtimes(ctx context.Context) (map[string]string, error) {
	var rows []struct{ ID string }
	if err := s.get(ctx, "/containers/json?all=1", &rows); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, row := range rows {
		var c struct {
			Name       string
			HostConfig struct{ Runtime string }
		}
		if err := s.get(ctx, "/containers/"+row.ID+"/json", &c); err != nil {
			if errors.Is(err, ErrEngineAway) {
				return nil, err
			}
			continue // removed meanwhile
		}
		out[strings.TrimPrefix(c.Name, "/")] = c.HostConfig.Runtime
	}
	return out, nil
}

// runtimesOnDisk is [Engine.Runtimes] of an engine that does not run, from its own
// records.
func runtimesOnDisk(dataRoot string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dataRoot, "containers", "*", "hostconfig.json"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, path := range files {
		var host struct{ Runtime string }
		var config struct{ Name string }
		if err := readJSON(path, &host); err != nil {
			return nil, err
		}
		name := filepath.Base(filepath.Dir(path))
		if readJSON(filepath.Join(filepath.Dir(path), "config.v2.json"), &config) == nil && config.Name != "" {
			name = strings.TrimPrefix(config.Name, "/")
		}
		out[name] = host.Runtime
	}
	return out, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// usersOf lists the containers that cannot start without dso-runtime.
func (h *Host) usersOf(ctx context.Context) ([]string, error) {
	all, err := h.Engine.Runtimes(ctx)
	if h.Root != "" || errors.Is(err, ErrEngineAway) {
		all, err = runtimesOnDisk(h.path(h.dataRoot()))
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name, runtime := range all {
		if runtime == RuntimeName {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// dataRoot is where an engine that does not run keeps its containers.
func (h *Host) dataRoot() string {
	var c struct {
		DataRoot string `json:"data-root"`
	}
	if readJSON(h.path(daemonConfig), &c) == nil && c.DataRoot != "" {
		return c.DataRoot
	}
	return "/var/lib/docker"
}

// daemon is a running dockerd.
type daemon struct {
	pid  int
	args []string
}

// findDaemon returns the host's running dockerd; pid is 0 when there is none.
func (h *Host) findDaemon() daemon {
	for _, file := range []string{"/var/run/docker.pid", "/run/docker.pid"} {
		text, err := os.ReadFile(h.path(file))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(line) == 0 {
			continue
		}
		args := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if strings.Contains(filepath.Base(args[0]), "dockerd") {
			return daemon{pid, args[1:]}
		}
	}
	return daemon{}
}

// option returns the value of a command-line option, see dockerd(8).
func (d daemon) option(name string) (value string, there bool) {
	for i, arg := range d.args {
		key, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case key != name || !strings.HasPrefix(arg, "-"):
		case inline:
			return value, true
		case i+1 < len(d.args):
			return d.args[i+1], true
		}
	}
	return "", false
}
