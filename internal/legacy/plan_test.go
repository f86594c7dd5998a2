package legacy_test

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/legacy"
)

type option func(*engine.Container)

func named(name string, opts ...option) engine.Container {
	c := engine.Container{ID: "id of " + name, Name: name, State: engine.State{Status: container.StateRunning}}
	c.Spec.Config = &container.Config{Image: "app:1", Labels: map[string]string{}}
	for _, o := range opts {
		o(&c)
	}
	return c
}

func status(s container.ContainerState) option {
	return func(c *engine.Container) { c.State.Status = s }
}
func health(h container.HealthStatus) option { return func(c *engine.Container) { c.State.Health = h } }
func image(i string) option                  { return func(c *engine.Container) { c.Spec.Config.Image = i } }
func labelled(kv ...string) option {
	return func(c *engine.Container) {
		for i := 0; i < len(kv); i += 2 {
			c.Spec.Config.Labels[kv[i]] = kv[i+1]
		}
	}
}

func service(project, name string) option {
	return labelled(engine.LabelComposeProject, project, engine.LabelComposeService, name)
}

func volume(name string) option {
	return func(c *engine.Container) {
		c.Mounts = append(c.Mounts, engine.Mount{Type: "volume", Name: name, Destination: "/data", Writable: true})
	}
}

const (
	old    = "web_old_1700000000"
	backup = "web_dso_backup_1700000000"
	fresh  = "web_dso_new_1700000001"
)

func TestPlan_DecidesFromFactsAndNotFromNames(t *testing.T) {
	stopped := status(container.StateExited)
	for name, tc := range map[string]struct {
		all  []engine.Container
		want map[string]string // by name: what is done, and a part of why
	}{
		"stopped copy of a healthy original": {
			[]engine.Container{named("web", health(container.Healthy)), named(old, stopped)},
			map[string]string{old: "remove: web runs and is healthy"},
		},
		"running copy of an original without a health check": {
			[]engine.Container{named("web"), named(backup)},
			map[string]string{backup: "remove: web runs, and this one is a copy of it; it is running"},
		},
		"several copies": {
			[]engine.Container{named("web"), named(old, stopped), named(backup, stopped), named(fresh)},
			map[string]string{old: "remove: copy", backup: "remove: copy", fresh: "remove: copy"},
		},
		"same service, newer image": {
			[]engine.Container{named("web", image("app:2"), service("shop", "web")), named(old, stopped, service("shop", "web"))},
			map[string]string{old: "remove: copy"},
		},
		"image that our rotation had to name by its id": {
			[]engine.Container{named("web", image("sha256:1"), labelled(label.Image, "app:1")), named(old, stopped)},
			map[string]string{old: "remove: copy"},
		},
		"another image": {
			[]engine.Container{named("web", image("nginx")), named(old, stopped)},
			map[string]string{old: "report: not a copy"},
		},
		"same image, another project": {
			[]engine.Container{named("web", service("shop", "web")), named(old, stopped, service("blog", "web"))},
			map[string]string{old: "report: another service"},
		},
		"same image, no project": {
			[]engine.Container{named("web", service("shop", "web")), named(old, stopped)},
			map[string]string{old: "report: another service"},
		},
		"original stopped":     {[]engine.Container{named("web", stopped), named(old)}, map[string]string{old: "report: web is exited"}},
		"original unhealthy":   {[]engine.Container{named("web", health(container.Unhealthy)), named(old)}, map[string]string{old: "report: web is unhealthy"}},
		"original just starts": {[]engine.Container{named("web", health(container.Starting)), named(old)}, map[string]string{old: "report: web is starting"}},
		"volume that the original does not have": {
			[]engine.Container{named("web", volume("empty")), named(old, stopped, volume("precious"))},
			map[string]string{old: "report: the volume precious at /data"},
		},
		"shared volume": {
			[]engine.Container{named("web", volume("data")), named(old, stopped, volume("data"))},
			map[string]string{old: "remove: copy"},
		},
		"name missing, one before": {[]engine.Container{named(old, stopped)}, map[string]string{old: "restore: web does not exist; it is exited"}},
		"name missing, one that was to take over": {
			[]engine.Container{named(fresh)}, map[string]string{fresh: "restore: web does not exist; it is running"},
		},
		"killed between the two renames": {
			[]engine.Container{named(backup), named(fresh)},
			map[string]string{backup: "restore: if it does not become healthy, " + fresh, fresh: "remove: once " + backup + " has the name"},
		},
		"both stopped": {
			[]engine.Container{named(backup, stopped), named(fresh, stopped)},
			map[string]string{backup: "restore: does not exist", fresh: "remove: once"},
		},
		"the one that took over runs alone": {
			[]engine.Container{named(backup, stopped), named(fresh)},
			map[string]string{backup: "report: which was there before it, does not", fresh: "report: does not"},
		},
		"the one that took over has data of its own": {
			[]engine.Container{named(backup, volume("a")), named(fresh, volume("b"))},
			map[string]string{backup: "restore: does not exist", fresh: "report: the volume b"},
		},
		"several before": {
			[]engine.Container{named(old, stopped), named(backup, stopped)},
			map[string]string{old: "report: several could have the name", backup: "report: several"},
		},
		"two that differ": {
			[]engine.Container{named(backup, stopped), named(fresh, image("app:2"))},
			map[string]string{backup: "report: two that differ", fresh: "report: two that differ"},
		},
		"no time":               {[]engine.Container{named("web"), named("web_old_2", stopped)}, map[string]string{"web_old_2": "report: may be yours"}},
		"no time, name missing": {[]engine.Container{named("web_old_2", stopped)}, map[string]string{"web_old_2": "report: may be yours"}},
		"the name is such a name": {
			[]engine.Container{named(old + "_dso_new_1700000002")},
			map[string]string{old + "_dso_new_1700000002": "report: is such a name itself"},
		},
		"made by a rotation of ours":     {[]engine.Container{named("web"), named(fresh, labelled(label.Rotation, "r"))}, nil},
		"replaced by a rotation of ours": {[]engine.Container{named("web"), named("ours_dso_backup_1700000000")}, nil},
		"in the middle of a rotation of ours": {
			[]engine.Container{named("busy_old_1700000000", stopped)},
			map[string]string{"busy_old_1700000000": "report: a rotation of busy is not over"},
		},
		"other names": {[]engine.Container{named("web_older_1700000000"), named("web_dso_new_"), named("_old_1700000000"), named("gold_1700000000")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			items := legacy.Plan(legacy.Observed{
				Containers: tc.all,
				Ours:       func(id string) bool { return strings.HasPrefix(id, "id of ours") },
				Busy:       func(name string) bool { return name == "busy" },
			})
			assert.Equal(t, len(items), len(tc.want), "%+v", items)
			for _, i := range items {
				do, why, _ := strings.Cut(tc.want[i.Name], ": ")
				assert.Equal(t, string(i.Do), do, "%s: %s", i.Name, i.Why)
				assert.Assert(t, strings.Contains(i.Why, why), "%s: %s", i.Name, i.Why)
				assert.Equal(t, len(i.Commands) > 0, i.Do == legacy.Report)
			}
		})
	}
}

func TestFind_ReadsTimesInEveryUnit(t *testing.T) {
	for name, want := range map[string]bool{
		"web_old_1700000000": true, "web_old_1700000000000": true, "web_old_1700000000000000": true, "web_dso_backup_1700000000000000000": true,
		"web_old_1234": false, "web_old_0000000000": false, "web_old_99999999999999999999": false, "web_old_20240101": false,
	} {
		found := legacy.Find([]engine.Container{named(name)}, func(string) bool { return false })
		assert.Equal(t, len(found), 1, name)
		assert.Equal(t, found[0].Of, "web")
		assert.Equal(t, !found[0].When.IsZero(), want, name)
	}
}
