package compose_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/label"
)

func TestLoad_SeesTheProjectThatDockerComposeSees(t *testing.T) {
	bin := binary(t)
	for _, f := range fixtures {
		t.Run(f.dir, func(t *testing.T) {
			f.enter(t)
			p := f.load(t)
			want := config(t, bin, append(f.args(), fileArgs(f.opts.Files...)...)...)
			assert.Equal(t, p.Name, want.Name)
			assert.DeepEqual(t, compose.Environments(p), environments(want))
			name, err := compose.ProjectName(t.Context(), f.opts)
			assert.NilError(t, err)
			assert.Equal(t, name, want.Name)
			// The files are what it says they are: named one by one they give the same project.
			named := config(t, bin, append(f.args(), fileArgs(p.ConfigFiles...)...)...)
			assert.DeepEqual(t, environments(named), environments(want))
		})
	}
}

func environments(r rendered) map[string]map[string]*string {
	all := map[string]map[string]*string{}
	for name, s := range r.Services {
		all[name] = s.Environment
		if s.Environment == nil {
			all[name] = map[string]*string{}
		}
	}
	return all
}

func TestOverlay_IsWhatDockerComposeAccepts(t *testing.T) {
	bin := binary(t)
	for _, f := range fixtures {
		t.Run(f.dir, func(t *testing.T) {
			f.enter(t)
			p := f.load(t)
			before := config(t, bin, slices.Concat(f.args(), fileArgs(p.ConfigFiles...))...)
			after := withOverlay(t, f)
			assert.Equal(t, after.Name, before.Name)
			checkServices(t, p, before, after)
		})
	}
}

// What they do is tested on an engine (make examples); that they are projects is cheap to know.
func TestOverlay_OfEachExampleIsWhatDockerComposeAccepts(t *testing.T) {
	bin := binary(t)
	examples, err := filepath.Glob("../../examples/*/compose.yaml")
	assert.NilError(t, err)
	assert.Assert(t, len(examples) >= 5)
	for _, file := range examples {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			f := fixture{dir: filepath.Join("..", filepath.Dir(file))}
			f.enter(t)
			p := f.load(t)
			assert.NilError(t, compose.CheckLabels(p))
			checkServices(t, p, config(t, bin, fileArgs(p.ConfigFiles...)...), withOverlay(t, f))
		})
	}
}

func TestOverlay_JobsGetTheRuntime(t *testing.T) {
	fixture{dir: "jobs-hooks"}.enter(t)
	assert.Equal(t, withOverlay(t, fixture{}).Jobs["migrate"].Runtime, compose.Runtime)
}

func TestOverlay_ALinkLeadsToTheFrontAndStillWaitsForTheService(t *testing.T) {
	fixture{dir: "strategies"}.enter(t)
	linker := withOverlay(t, fixture{}).Services["linker"]
	assert.DeepEqual(t, linker.Links, []string{"linked-front:l"})
	assert.DeepEqual(t, slices.Sorted(maps.Keys(linker.DependsOn)), []string{"linked", "linked-front"})
	assert.Equal(t, linker.Runtime, "")
}

func TestOverlay_AnInactiveServiceGetsTheRuntimeToo(t *testing.T) {
	f := fixture{dir: "profiles"}
	dir := f.enter(t)
	text, err := compose.Overlay(f.load(t), overlayOptions)
	assert.NilError(t, err)
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	write(t, overlay, text)
	r := config(t, binary(t), "--profile", "never", "-f", filepath.Join(dir, "compose.yaml"), "-f", overlay)
	assert.Equal(t, r.Services["never"].Runtime, compose.Runtime)
	assert.Equal(t, len(r.Services["never"].Ports), 1)
}

// withOverlay is what docker compose makes of a fixture and its overlay.
func withOverlay(t *testing.T, f fixture) rendered {
	t.Helper()
	p := f.load(t)
	text, err := compose.Overlay(p, overlayOptions)
	assert.NilError(t, err)
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	write(t, overlay, text)
	return config(t, binary(t), slices.Concat(f.args(), fileArgs(p.ConfigFiles...), fileArgs(overlay))...)
}

// checkServices compares a project with and without the overlay.
func checkServices(t *testing.T, p *compose.Project, before, after rendered) {
	t.Helper()
	want := slices.Collect(maps.Keys(before.Services))
	for _, s := range p.Services() {
		need, reasons, err := compose.FrontFor(p, s.Name)
		assert.NilError(t, err)
		old, now := before.Services[s.Name], after.Services[s.Name]
		assert.DeepEqual(t, now.Environment, old.Environment)
		assert.Equal(t, now.Runtime == compose.Runtime, len(s.References) > 0 || now.Labels[label.Secrets] != "")
		if !need {
			assert.DeepEqual(t, now.Ports, old.Ports)
			for dep := range old.DependsOn {
				assert.DeepEqual(t, now.DependsOn[dep], old.DependsOn[dep])
			}
			continue
		}
		t.Logf("%s: front because it %v", s.Name, reasons)
		name := compose.FrontName(s.Name)
		want = append(want, name)
		front := after.Services[name]
		assert.DeepEqual(t, front.Ports, old.Ports)
		assert.DeepEqual(t, front.Profiles, old.Profiles)
		assert.Equal(t, front.Labels[label.FrontService], s.Name)
		assert.Equal(t, front.MacAddress, old.MacAddress)
		assert.Equal(t, len(now.Ports), 0)
		assert.Equal(t, now.MacAddress, "")
		assert.Equal(t, now.Labels[label.Front], name)
		assert.Equal(t, now.Labels[label.ComposePath], p.ConfigFiles[0])
		assert.Equal(t, now.DependsOn[name].Condition, "service_started")
		for dep := range old.DependsOn {
			assert.DeepEqual(t, now.DependsOn[dep], old.DependsOn[dep])
		}
		assert.DeepEqual(t, slices.Sorted(maps.Keys(now.Networks)), slices.Sorted(maps.Keys(old.Networks)))
		for net, n := range old.Networks {
			if n == nil {
				continue
			}
			assert.Equal(t, front.Networks[net].Ipv4Address, n.Ipv4Address)
			assert.Equal(t, front.Networks[net].MacAddress, n.MacAddress)
			if now.Networks[net] != nil {
				assert.Equal(t, now.Networks[net].Ipv4Address, "")
				assert.Equal(t, now.Networks[net].MacAddress, "")
			}
		}
	}
	slices.Sort(want)
	assert.DeepEqual(t, slices.Sorted(maps.Keys(after.Services)), want)
}
