package testengine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// Options says what a private engine is made of. The zero value is a plain
// engine from the machine's own dockerd.
type Options struct {
	// BinDir comes first in the PATH of everything that runs inside.
	BinDir string
	// Plugins are Docker CLI plugins to link, each the path of a binary called
	// docker-<name>.
	Plugins []string
	// RuntimePath, when set, is registered as runtimes.dso.
	RuntimePath string
	// DefaultRuntime, when set, is the engine's default-runtime.
	DefaultRuntime string
	// Daemon is merged over the generated daemon.json.
	Daemon map[string]any
	// Dockerd is the engine's binary; "dockerd" when empty.
	Dockerd string
	// TempDir holds the engine's directory; [os.TempDir] when empty. It must
	// be short: Unix socket paths end after 107 bytes.
	TempDir string
	// StorageDriver forces one; otherwise the best that works is taken.
	StorageDriver string
}

// FromRepository are the options for an engine that has this repository's own
// programs: root/bin first in PATH, docker-dso and docker-compose as plugins
// and dso-runtime registered, as far as they are built.
func FromRepository(root string) Options {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs // the engine takes an absolute path for a runtime only
	}
	bin := filepath.Join(root, "bin")
	opts := Options{BinDir: bin}
	for _, plugin := range []string{
		filepath.Join(bin, "docker-dso"),
		filepath.Join(root, "tools", "bin", "docker-compose"),
	} {
		if exists(plugin) {
			opts.Plugins = append(opts.Plugins, plugin)
		}
	}
	if runtime := filepath.Join(bin, "dso-runtime"); exists(runtime) {
		opts.RuntimePath = runtime
	}
	return opts
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (o Options) validate() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("start private engine: root is needed for namespaces")
	}
	for _, p := range o.Plugins {
		if !strings.HasPrefix(filepath.Base(p), "docker-") || !exists(p) {
			return fmt.Errorf("start private engine: %s is not a docker CLI plugin", p)
		}
	}
	return nil
}

// daemonConfig is what goes to daemon.json.
func (e *Engine) daemonConfig() map[string]any {
	config := map[string]any{
		// Everything that a container starts is found again under this group,
		// on cgroup v1 and v2 alike.
		"cgroup-parent": "/" + e.name,
		"exec-opts":     []string{"native.cgroupdriver=cgroupfs"},
	}
	if e.opts.RuntimePath != "" {
		config["runtimes"] = map[string]any{"dso": map[string]any{"path": e.opts.RuntimePath}}
	}
	if e.opts.DefaultRuntime != "" {
		config["default-runtime"] = e.opts.DefaultRuntime
	}
	maps.Copy(config, e.opts.Daemon)
	return config
}
