package hostsetup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options are what the caller wants.
type Options struct {
	DefaultRuntime bool   // every container may use references
	Container      bool   // the agent runs as a container
	Programs       string // where dso-agent, dso-runtime and dso-front are; empty: they are looked for
}

// Host is the host that is worked on.
type Host struct {
	// Root is put before every path. The tree below it is the one of a host that does
	// not run, an image for example: nothing is started there. Empty: this host.
	Root   string
	Engine Engine
	// Run runs a program and returns what it printed.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Answers succeeds when the agent answers.
	Answers func(ctx context.Context) error
	// Progress is told each step before it is done, may be nil.
	Progress func(what string)
	// Fault may make a step fail, in tests: it is given the step's number, before and
	// after the effect.
	Fault func(point string) error

	keepAudit bool // an uninstallation leaves the audit log
}

// New returns this host, or the tree below root.
func New(root string) *Host {
	return &Host{Root: strings.TrimSuffix(root, "/"), Engine: DefaultSocket, Run: run}
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

func (h *Host) live() bool { return h.Root == "" }

func (h *Host) path(p string) string { return h.Root + p }

// Facts are what a plan is made of.
type Facts struct {
	Live        bool            `json:"live"` // this host, and not a tree of files
	Root        string          `json:"root,omitempty"`
	Systemd     bool            `json:"systemd"` // services are systemd's
	Group       bool            `json:"group"`   // there is a group dso
	Programs    string          `json:"programs"`
	Installed   map[string]bool `json:"-"`        // paths that hold the programs already
	Packaged    bool            `json:"packaged"` // a package brought units and tmpfiles
	Files       map[string]File `json:"-"`        // what lies on the paths that a plan may be about
	Enabled     map[string]bool `json:"enabled"`  // units, at boot
	Active      bool            `json:"active"`   // the agent runs
	DockerFound bool            `json:"docker_found"`
	Reached     bool            `json:"engine_reached"`
	Engine      Info            `json:"engine"`
	Config      string          `json:"daemon_config"` // the engine's daemon.json
	Flags       []string        `json:"flags,omitempty"`
	AsService   bool            `json:"as_service"`          // a setup has made the agent a service
	AsContainer bool            `json:"as_container"`        // or a container
	Container   string          `json:"container,omitempty"` // state of the container of the agent
	Image       string          `json:"image,omitempty"`     // that it runs, or is to run
}

// File is what lies on a path.
type File struct {
	There   bool
	Dir     bool
	Mode    fs.FileMode
	Content []byte
}

// Programs of DSO that the host itself needs.
var hostPrograms = []string{"dso-agent", "dso-runtime", "dso-front"}

// ErrNoPrograms says that the programs were not found.
var ErrNoPrograms = errors.New("dso-agent, dso-runtime and dso-front are not there")

// Detect looks at the host and changes nothing.
func (h *Host) Detect(ctx context.Context, o Options) (Facts, error) {
	f := Facts{Live: h.live(), Root: h.Root, Config: daemonConfig, Enabled: map[string]bool{}, Installed: map[string]bool{}, Files: map[string]File{}}
	for _, sign := range h.systemdSigns() {
		if exists(h.path(sign)) {
			f.Systemd = true
		}
	}
	_, f.Group = h.groupID(groupName)
	f.Packaged = exists(h.path(filepath.Join(packageUnitDir, "dso-agent.service")))
	var err error
	if f.Programs, err = h.findPrograms(o.Programs); err != nil {
		return f, err
	}
	for _, c := range copies(f.Programs) {
		f.Installed[c.to] = sameFile(c.from, h.path(c.to))
	}
	h.detectEngine(ctx, &f)
	if f.Systemd {
		for _, unit := range units {
			f.Enabled[unit] = h.enabled(ctx, unit)
		}
	}
	if f.Live {
		f.Active = h.Answers != nil && h.Answers(ctx) == nil
	}
	r, err := h.loadRecord()
	if err != nil {
		return f, err
	}
	f.AsService, f.AsContainer = r.made(StartAgent) || r.made(EnableUnit), r.made(RunAgent)
	if o.Container || f.AsContainer {
		if err := h.detectContainer(ctx, &f); err != nil {
			return f, err
		}
	}
	for _, path := range planned(f) {
		if f.Files[path], err = h.look(path); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (h *Host) systemdSigns() []string {
	if h.live() {
		return []string{"/run/systemd/system"}
	}
	return []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"}
}

// findPrograms returns the directory of the programs, beside the one that runs or where
// packages and make install put them.
func (h *Host) findPrograms(named string) (string, error) {
	candidates := []string{named}
	if named == "" {
		candidates = nil
		if self, err := os.Executable(); err == nil {
			if self, err = filepath.EvalSymlinks(self); err == nil {
				candidates = append(candidates, filepath.Dir(self))
			}
		}
		candidates = append(candidates, h.path("/usr/bin"), h.path(programDir))
	}
	for _, dir := range candidates {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		if !h.incomplete(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w in %s", ErrNoPrograms, strings.Join(candidates, ", "))
}

func (h *Host) incomplete(dir string) bool {
	for _, name := range hostPrograms {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode()&0o111 == 0 {
			return true
		}
	}
	return false
}

func (h *Host) detectEngine(ctx context.Context, f *Facts) {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/snap/bin"} {
		f.DockerFound = f.DockerFound || exists(h.path(dir+"/dockerd"))
	}
	if !h.live() {
		return
	}
	d := h.findDaemon()
	if path, ok := d.option("config-file"); ok {
		f.Config = path
	}
	for _, name := range []string{"add-runtime", "default-runtime"} {
		if _, ok := d.option(name); ok {
			f.Flags = append(f.Flags, "--"+name)
		}
	}
	if real, err := filepath.EvalSymlinks(f.Config); err == nil {
		f.Config = real
	}
	if info, err := h.Engine.Info(ctx); err == nil {
		f.Engine, f.Reached, f.DockerFound = info, true, true
	}
}

func (h *Host) look(path string) (File, error) {
	st, err := os.Stat(h.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, err
	}
	f := File{There: true, Dir: st.IsDir(), Mode: st.Mode().Perm()}
	if !f.Dir {
		f.Content, err = os.ReadFile(h.path(path))
	}
	return f, err
}

// groupID returns the number of a group of the host.
func (h *Host) groupID(name string) (string, bool) {
	text, err := os.ReadFile(h.path("/etc/group"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[0] == name {
			return fields[2], true
		}
	}
	return "", false
}

// systemctl runs it for the host, or for the tree below the root.
func (h *Host) systemctl(ctx context.Context, args ...string) (string, error) {
	if !h.live() {
		args = append([]string{"--root=" + cmp.Or(h.Root, "/")}, args...)
	}
	return h.Run(ctx, "systemctl", args...)
}

func (h *Host) enabled(ctx context.Context, unit string) bool {
	out, err := h.systemctl(ctx, "is-enabled", unit)
	return err == nil && strings.TrimSpace(out) == "enabled"
}

func sameFile(one, other string) bool {
	a, err := os.ReadFile(one)
	if err != nil {
		return false
	}
	b, err := os.ReadFile(other)
	return err == nil && bytes.Equal(a, b)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
