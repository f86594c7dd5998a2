package testengine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// Engine is one private engine. Its methods may be called from several
// goroutines, except that starting, stopping and closing must not overlap.
type Engine struct {
	opts   Options
	name   string // of the engine's network namespace, control group and host
	client string // of the clients' network namespace
	dir    string
	driver string
	holder *process
	daemon *process
	api    *http.Client

	closeOnce sync.Once
	closeErr  error
}

// Start builds the namespaces and starts the daemon; it returns when the API
// answers. On an error everything that was made is gone again.
func Start(ctx context.Context, opts Options) (*Engine, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.TempDir == "" {
		opts.TempDir = os.TempDir()
	}
	sweep(opts.TempDir)
	e, err := prepare(opts)
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		e.makeNetwork, e.hold, e.link, e.chooseStorage, e.StartDaemon,
	} {
		if err := step(ctx); err != nil {
			err = fmt.Errorf("start private engine: %w", err)
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// prepare makes the directories and files of an engine, nothing in the kernel.
func prepare(opts Options) (*Engine, error) {
	id := make([]byte, 3)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("start private engine: %w", err)
	}
	suffix := hex.EncodeToString(id)
	e := &Engine{
		opts: opts, name: "dsot-" + suffix, client: "dsoc-" + suffix,
		dir: filepath.Join(opts.TempDir, "dsot-"+suffix),
	}
	e.api = e.newAPI()
	err := os.Mkdir(e.dir, 0o700)
	for _, sub := range []string{
		"data", "exec", "etc", "etc.work", "varlib/dso", "varlib/docker", "home/.docker/cli-plugins",
	} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(e.dir, sub), 0o755))
	}
	err = errors.Join(err, e.own(), e.writeDaemonConfig(e.daemonConfig()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start private engine: %w", err), os.RemoveAll(e.dir))
	}
	return e, nil
}

// link makes the CLI plugins known to every docker command that runs inside.
func (e *Engine) link(context.Context) error {
	for _, plugin := range e.opts.Plugins {
		path, err := filepath.Abs(plugin)
		if err != nil {
			return fmt.Errorf("link plugin: %w", err)
		}
		to := filepath.Join(e.dir, "home/.docker/cli-plugins", filepath.Base(plugin))
		if err := os.Symlink(path, to); err != nil {
			return fmt.Errorf("link plugin: %w", err)
		}
	}
	return nil
}

// Name is unique among the engines of this machine, and the host name inside.
func (e *Engine) Name() string { return e.name }

// Dir is the engine's directory; Close removes it.
func (e *Engine) Dir() string { return e.dir }

// StorageDriver is the storage driver the engine runs with.
func (e *Engine) StorageDriver() string { return e.driver }

// Socket is the path of the engine's API socket as seen from the machine.
// Inside it is /var/run/docker.sock.
func (e *Engine) Socket() string { return filepath.Join(e.dir, "docker.sock") }

// LogFile holds the daemon's output, of every start one after the other.
func (e *Engine) LogFile() string { return filepath.Join(e.dir, "dockerd.log") }

// Address is the engine's host as its clients see it.
func (e *Engine) Address() string { return hostAddress }

// Address6 is the same over IPv6.
func (e *Engine) Address6() string { return hostAddress6 }

// HostPath is where the machine sees a path of the engine's mount namespace,
// such as /run/dso/dso.sock. It is valid until Close, also for sockets.
func (e *Engine) HostPath(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", e.holder.pid()), path)
}

// DaemonConfigFile is the daemon.json in use, the same path inside and outside.
func (e *Engine) DaemonConfigFile() string { return filepath.Join(e.dir, "daemon.json") }

func (e *Engine) writeDaemonConfig(config map[string]any) error {
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("write daemon.json: %w", err)
	}
	return os.WriteFile(e.DaemonConfigFile(), content, 0o644)
}
