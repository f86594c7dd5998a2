package hostsetup

import (
	"testing"

	"gotest.tools/v3/assert"
)

// facts are those of a host on which nothing was done.
func facts() Facts {
	return Facts{
		Live: true, Systemd: true, Programs: "/usr/bin", Packaged: true, DockerFound: true, Reached: true, Config: daemonConfig,
		Files:   map[string]File{"/etc/docker": {There: true, Dir: true}, packageTmpfile: {There: true}, "/etc": {There: true, Dir: true}},
		Enabled: map[string]bool{}, Engine: Info{OS: "Debian GNU/Linux 12 (bookworm)", Default: "runc"},
	}
}

func TestPlan_OfAPackage(t *testing.T) {
	p, err := NewPlan(facts(), Options{})
	assert.NilError(t, err)
	var kinds []string
	for _, s := range p.Steps {
		kinds = append(kinds, string(s.Kind)+" "+s.Path+s.Name)
	}
	assert.DeepEqual(t, kinds, []string{
		"group dso", "directory /etc/dso", "directory /etc/dso/credentials", "directory /var/lib/dso", "directory /root/.dso",
		"directory /run/dso", "directory /run/lock/dso",
		"enable dso-runtime.socket", "enable dso-agent.socket", "enable dso-agent.service", "start dso-agent.service",
		"file /etc/docker/daemon.json",
	})
}

// The engine is told last: until then nothing needs the agent.
func TestPlan_RegistersTheRuntimeLast(t *testing.T) {
	f := facts()
	f.Packaged = false
	for _, o := range []Options{{}, {DefaultRuntime: true}, {Container: true}} {
		p, err := NewPlan(f, o)
		assert.NilError(t, err)
		assert.Equal(t, p.Steps[len(p.Steps)-1].Effect, ReloadEngine)
	}
}

func TestPlan_KeepsTheAgentAContainer(t *testing.T) {
	f := facts()
	f.Systemd, f.AsContainer, f.Image, f.Container = false, true, "dso-agent:2", "running dso-agent:1"
	p, err := NewPlan(f, Options{})
	assert.NilError(t, err)
	last := p.Steps[len(p.Steps)-2]
	assert.Equal(t, string(last.Kind)+" "+last.Name, "container dso-agent:2")
	for _, s := range p.Steps {
		assert.Assert(t, s.Kind != EnableUnit && s.Kind != StartAgent, s.What)
	}
}

func TestPlan_RefusesAHostThatCannotBeOne(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		o      Options
		is     error
	}{
		"without an engine":           {func(f *Facts) { f.DockerFound = false }, Options{}, ErrNoEngine},
		"with Docker Desktop":         {func(f *Facts) { f.Engine.OS = "Docker Desktop" }, Options{}, ErrEngine},
		"with a rootless engine":      {func(f *Facts) { f.Engine.Security = []string{"name=seccomp,profile=default", "name=rootless"} }, Options{}, ErrEngine},
		"without systemd":             {func(f *Facts) { f.Systemd = false }, Options{}, ErrNoSystemd},
		"with another default":        {func(f *Facts) { f.Engine.Default = "nvidia" }, Options{DefaultRuntime: true}, ErrTaken},
		"with the agent as a service": {func(f *Facts) { f.AsService = true }, Options{Container: true}, ErrService},
		"with runtimes as an option":  {func(f *Facts) { f.Flags = []string{"--add-runtime"} }, Options{}, ErrFlags},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			c.change(&f)
			_, err := NewPlan(f, c.o)
			assert.ErrorIs(t, err, c.is)
			hint, ok := err.(interface{ Hint() string }) //nolint:errorlint // the outermost one
			assert.Assert(t, ok && hint.Hint() != "", "%v has no way out", err)
		})
	}
}
