package compose_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/compose"
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
			text, err := compose.Overlay(p, overlayOptions)
			assert.NilError(t, err)
			overlay := filepath.Join(t.TempDir(), "overlay.yaml")
			write(t, overlay, text)
			base := append(f.args(), fileArgs(p.ConfigFiles...)...)
			before, after := config(t, bin, base...), config(t, bin, append(base, "-f", overlay)...)
			assert.Equal(t, after.Name, before.Name)
			checkServices(t, p, before, after)
		})
	}
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
		assert.Equal(t, now.Runtime == compose.Runtime, len(s.References) > 0)
		if !need {
			assert.DeepEqual(t, now.Ports, old.Ports)
			assert.DeepEqual(t, now.DependsOn, old.DependsOn)
			continue
		}
		t.Logf("%s: front because it %v", s.Name, reasons)
		name := compose.FrontName(s.Name)
		want = append(want, name)
		front := after.Services[name]
		assert.DeepEqual(t, front.Ports, old.Ports)
		assert.DeepEqual(t, front.Profiles, old.Profiles)
		assert.Equal(t, front.Labels[compose.LabelFrontService], s.Name)
		assert.Equal(t, front.MacAddress, old.MacAddress)
		assert.Equal(t, len(now.Ports), 0)
		assert.Equal(t, now.MacAddress, "")
		assert.Equal(t, now.Labels[compose.LabelFront], name)
		assert.Equal(t, now.Labels[compose.LabelComposePath], p.ConfigFiles[0])
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
