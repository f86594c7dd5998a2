package hostsetup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/packaging"
)

var (
	units    = packaging.Units
	allUnits = append(slices.Clone(packaging.Helpers), units...)
)

// Reasons why a host cannot be set up. The error says the way out.
var (
	ErrNoEngine  = errors.New("there is no Docker Engine on this host")
	ErrNoSystemd = errors.New("this host has no systemd")
	ErrEngine    = errors.New("no runtime can be registered in this engine")
	ErrFlags     = errors.New("the engine is started with options that daemon.json may not repeat")
	ErrTaken     = errors.New("the engine has another default runtime")
	ErrService   = errors.New("the agent is a service of this host")
)

// hinted is an error with a way out.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint says what can be done about it.
func (h hinted) Hint() string { return h.hint }

// NewPlan says what is to be done on a host. It does nothing and asks nobody. An agent that
// was made a container stays one.
func NewPlan(f Facts, o Options) (Plan, error) {
	o.Container = o.Container || f.AsContainer
	if err := possible(f, o); err != nil {
		return Plan{}, err
	}
	p := planner{f: f}
	programs := p.programs()
	p.Registration = Registration{Path: filepath.Join(programs, "dso-runtime"), Default: o.DefaultRuntime}
	if !f.Group {
		p.add(Step{Kind: MakeGroup, Name: groupName, What: "make the group " + groupName + ": its members may store secrets and rotate, and read no value"})
	}
	p.directory(configDir, 0o750, groupName)
	p.directory(credentialsDir, 0o700, "")
	p.directory(stateDir, 0o755, "")
	p.directory(vaultDir, 0o700, "")
	if f.Live {
		p.directory(runDir, 0o755, "")
		p.directory(lockDir, 0o755, "")
	}
	if o.Container {
		p.container()
	} else {
		p.services(programs)
	}
	if err := p.daemon(); err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

func possible(f Facts, o Options) error {
	desktop := strings.Contains(f.Engine.OS, "Docker Desktop")
	rootless := slices.ContainsFunc(f.Engine.Security, func(s string) bool { return strings.Contains(s, "rootless") })
	switch {
	case f.Live && !f.DockerFound:
		return hinted{ErrNoEngine, "install Docker Engine first: https://docs.docker.com/engine/install/"}
	case desktop:
		return hinted{fmt.Errorf("%w: it is Docker Desktop's", ErrEngine), "DSO needs Docker Engine on Linux"}
	case rootless:
		return hinted{fmt.Errorf("%w: it is rootless", ErrEngine), "DSO needs an engine that runs as root"}
	case !f.Systemd && !o.Container:
		return hinted{ErrNoSystemd, "docker dso setup --container runs the agent as a container"}
	case o.Container && f.AsService:
		return hinted{ErrService, "docker dso setup --uninstall, and then docker dso setup --container"}
	case o.Container && !f.Live:
		return hinted{errors.New("an agent in a container needs an engine that runs"), "leave --root or --container out"}
	case o.DefaultRuntime && f.Engine.Default != "" && f.Engine.Default != stock && f.Engine.Default != RuntimeName:
		return hinted{fmt.Errorf("%w: %s", ErrTaken, f.Engine.Default), "leave --default-runtime out, and write runtime: dso where references are used"}
	}
	for _, flag := range f.Flags {
		if flag == "--add-runtime" || o.DefaultRuntime {
			return hinted{fmt.Errorf("%w: %s", ErrFlags, flag), "move it to " + f.Config + ", and restart the engine when it suits you"}
		}
	}
	return nil
}

// planned lists the paths that a plan may be about.
func planned(f Facts) []string {
	paths := []string{configDir, credentialsDir, stateDir, vaultDir, runDir, lockDir, tmpfilesPath, packageTmpfile, f.Config}
	for _, dir := range []string{filepath.Dir(f.Config), filepath.Dir(tmpfilesPath), pluginDir, programDir, unitDir} {
		for ; dir != "/"; dir = filepath.Dir(dir) {
			paths = append(paths, dir)
		}
	}
	for _, unit := range allUnits {
		paths = append(paths, filepath.Join(unitDir, unit))
	}
	return paths
}

type planner struct {
	f Facts
	Plan
}

func (p *planner) add(s Step) { p.Steps = append(p.Steps, s) }

func (p *planner) directory(path string, mode fs.FileMode, group string) {
	if p.f.Files[path].There {
		return
	}
	what := fmt.Sprintf("make %s (mode %04o", path, mode)
	if group != "" {
		what += ", group " + group
	}
	p.add(Step{Kind: MakeDir, Path: path, Mode: mode, Group: group, What: what + ")"})
	p.f.Files[path] = File{There: true, Dir: true}
}

// parents makes the directories that a file needs.
func (p *planner) parents(path string) {
	dir := filepath.Dir(path)
	if dir == "/" || p.f.Files[dir].There {
		return
	}
	p.parents(dir)
	p.directory(dir, 0o755, "")
}

func (p *planner) file(path string, content []byte, effect Effect, what string) {
	now := p.f.Files[path]
	if now.There && bytes.Equal(now.Content, content) {
		return
	}
	p.parents(path)
	mode := now.Mode
	if !now.There {
		mode = 0o644
	}
	p.add(Step{Kind: WriteFile, Path: path, Mode: mode, Content: content, Before: now.Content, Effect: effect, What: what})
}

// programs returns where the programs will be. Those of a package or of make install
// stay where they are; those of an unpacked archive are copied, because what the engine
// and systemd start must not lie in somebody's download directory.
func (p *planner) programs() string {
	dir, inside := p.f.Programs, true
	if p.f.Root != "" {
		dir, inside = strings.CutPrefix(dir, p.f.Root)
	}
	if inside && slices.Contains([]string{"/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/usr/libexec/dso"}, dir) {
		return dir
	}
	for _, c := range copies(p.f.Programs) {
		p.copy(c.from, c.to)
	}
	return programDir
}

// copies lists the programs of an unpacked archive, and where they go.
func copies(dir string) (all []struct{ from, to string }) {
	for _, name := range hostPrograms {
		all = append(all, struct{ from, to string }{filepath.Join(dir, name), filepath.Join(programDir, name)})
	}
	return append(all, struct{ from, to string }{filepath.Join(dir, "docker-dso"), filepath.Join(pluginDir, "docker-dso")})
}

func (p *planner) copy(from, to string) {
	if p.f.Installed[to] {
		return
	}
	p.parents(to)
	p.add(Step{Kind: CopyFile, Path: to, Source: from, Mode: 0o755, What: "install " + to})
}

// services makes the agent a service of systemd.
func (p *planner) services(programs string) {
	if !p.f.Files[packageTmpfile].There {
		p.file(tmpfilesPath, packaging.Tmpfiles(), CreateFiles, "write "+tmpfilesPath)
	}
	if !p.f.Packaged {
		for _, unit := range allUnits {
			path := filepath.Join(unitDir, unit)
			p.file(path, packaging.Unit(unit, programs), ReloadUnits, "write "+path)
		}
	}
	for _, unit := range units {
		if !p.f.Enabled[unit] {
			p.add(Step{Kind: EnableUnit, Name: unit, What: "start " + unit + " at boot"})
		}
	}
	if p.f.Live && !p.f.Active {
		p.add(Step{Kind: StartAgent, Name: "dso-agent.service", What: "start the agent, and wait until it answers"})
	}
}

func (p *planner) daemon() error {
	path := p.f.Config
	content, err := register(p.f.Files[path].Content, p.Registration)
	if err != nil {
		return hinted{fmt.Errorf("read %s: %w", path, err), "the engine cannot read it either: correct it first"}
	}
	what := fmt.Sprintf("register the runtime %s in %s, and let the engine read it; nothing is restarted", RuntimeName, path)
	p.file(path, content, ReloadEngine, what)
	if p.f.Live && !p.f.Reached {
		p.Notes = append(p.Notes, "the engine does not run: it reads "+path+" when it starts")
	}
	if p.Registration.Default {
		p.Notes = append(p.Notes, "every container that is made from now on has the runtime "+RuntimeName+"; those that are there keep theirs")
	}
	return nil
}
