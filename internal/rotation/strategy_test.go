package rotation_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

func host(edit func(*container.HostConfig)) hosttest.Option {
	return func(s *engine.Spec) { edit(s.HostConfig) }
}

func publish(s *engine.Spec) {
	s.HostConfig.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "8080"}}}
}

func staticAddress(s *engine.Spec) {
	s.Networks = map[string]*network.EndpointSettings{"app": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("172.20.0.9")}}}
}

func TestChoose_SaysWhy(t *testing.T) {
	asked := func(s string) hosttest.Option { return hosttest.Label(label.Strategy, s) }
	front := func(o *rotation.Observed) { o.Front = &rotation.Front{} }
	mounts := func(m engine.Mount) func(*rotation.Observed) {
		return func(o *rotation.Observed) { o.Container.Mounts = []engine.Mount{m} }
	}
	for name, tc := range map[string]struct {
		spec    []hosttest.Option
		observe func(*rotation.Observed)
		want    rotation.Strategy // empty: it is refused
		why     string
	}{
		"nothing special":                  {want: rotation.Rolling, why: "it accepts no connections"},
		"auto by name":                     {spec: []hosttest.Option{asked("auto")}, want: rotation.Rolling, why: "nothing in it forbids two at once"},
		"a front":                          {spec: []hosttest.Option{publish}, observe: front, want: rotation.Rolling, why: "its front moves the traffic"},
		"a port of its own":                {spec: []hosttest.Option{publish}, want: rotation.Restart, why: "publishes 80/tcp itself"},
		"connections and no front":         {observe: func(o *rotation.Observed) { o.Ports = []uint16{80, 443} }, want: rotation.Restart, why: "accepts connections on 80, 443 and has no front"},
		"connections and a front":          {observe: func(o *rotation.Observed) { front(o); o.Ports = []uint16{80} }, want: rotation.Rolling, why: "its front moves the traffic"},
		"the host's network":               {spec: []hosttest.Option{host(func(h *container.HostConfig) { h.NetworkMode = "host" })}, want: rotation.Restart, why: "uses the host's network"},
		"another's network":                {spec: []hosttest.Option{host(func(h *container.HostConfig) { h.NetworkMode = "container:abc" })}, want: rotation.Restart, why: "lives in the network of another"},
		"others in its network":            {observe: func(o *rotation.Observed) { o.Dependants = []string{"x"} }, want: rotation.Restart, why: "other containers live in its network"},
		"a static address":                 {spec: []hosttest.Option{staticAddress}, want: rotation.Restart, why: "static address on network app"},
		"a volume that it writes to":       {observe: mounts(engine.Mount{Type: "volume", Name: "data", Destination: "/data", Writable: true}), want: rotation.Restart, why: "writes to volume data at /data"},
		"a directory that it writes to":    {observe: mounts(engine.Mount{Type: "bind", Source: "/srv", Destination: "/data", Writable: true}), want: rotation.Restart, why: "writes to /srv at /data"},
		"a volume that it only reads":      {observe: mounts(engine.Mount{Type: "volume", Name: "data", Destination: "/data"}), want: rotation.Rolling, why: "nothing in it forbids"},
		"a tmpfs":                          {observe: mounts(engine.Mount{Type: "tmpfs", Destination: "/tmp", Writable: true}), want: rotation.Rolling, why: "nothing in it forbids"},
		"devices":                          {spec: []hosttest.Option{host(func(h *container.HostConfig) { h.Devices = []container.DeviceMapping{{}} })}, want: rotation.Restart, why: "devices"},
		"--rm":                             {spec: []hosttest.Option{host(func(h *container.HostConfig) { h.AutoRemove = true })}, want: rotation.Restart, why: "--rm"},
		"another's pid namespace":          {spec: []hosttest.Option{host(func(h *container.HostConfig) { h.PidMode = "container:abc" })}, want: rotation.Restart, why: "a namespace of another"},
		"rolling although it writes":       {spec: []hosttest.Option{asked("rolling")}, observe: mounts(engine.Mount{Type: "volume", Name: "d", Destination: "/d", Writable: true}), want: rotation.Rolling, why: "label"},
		"rolling with a port of its own":   {spec: []hosttest.Option{asked("rolling"), publish}, why: "use restart or auto"},
		"rolling with a static address":    {spec: []hosttest.Option{asked("rolling"), staticAddress}, why: "static address"},
		"restart":                          {spec: []hosttest.Option{asked("restart")}, want: rotation.Restart, why: "label"},
		"none":                             {spec: []hosttest.Option{asked("none")}, want: rotation.None, why: "label"},
		"signal":                           {spec: []hosttest.Option{asked("signal")}, want: rotation.Signal, why: "label"},
		"a signal that does not exist":     {spec: []hosttest.Option{asked("signal"), hosttest.Label(label.Signal, "SIGRELOAD")}, why: `label dso.update.signal="SIGRELOAD" of web is no signal`},
		"a signal that ends the process":   {spec: []hosttest.Option{asked("signal"), hosttest.Label(label.Signal, "kill")}, why: "no process can answer"},
		"exec":                             {spec: []hosttest.Option{asked("exec"), hosttest.Label(label.Exec, "app reload")}, want: rotation.Exec, why: "label"},
		"exec of nothing":                  {spec: []hosttest.Option{asked("exec")}, why: "has no label dso.update.exec"},
		"exec of what is no list":          {spec: []hosttest.Option{asked("exec"), hosttest.Label(label.Exec, "[app")}, why: "label dso.update.exec of web is no command"},
		"a word that is no strategy":       {spec: []hosttest.Option{asked("roling")}, why: "must be one of auto, rolling, restart"},
		"a reloader that is switched off":  {spec: []hosttest.Option{asked("rolling"), hosttest.Label(label.Reloader, "false")}, want: rotation.None, why: "dso.reloader=false"},
		"a Swarm task":                     {spec: []hosttest.Option{hosttest.Label(engine.LabelSwarmTask, "t"), hosttest.Label("com.docker.swarm.service.name", "shop")}, why: "docker service update --force shop"},
		"several reasons are all reported": {spec: []hosttest.Option{publish, host(func(h *container.HostConfig) { h.AutoRemove = true })}, want: rotation.Restart, why: "leaves nothing to roll back to"},
	} {
		t.Run(name, func(t *testing.T) {
			o := rotation.Observed{Container: engine.Container{ID: strings.Repeat("a", 64), Name: "web", Spec: hosttest.Spec(tc.spec...)}}
			if tc.observe != nil {
				tc.observe(&o)
			}
			got, reasons, err := rotation.Choose(o)
			assert.Equal(t, got, tc.want)
			if tc.want == "" {
				assert.ErrorIs(t, err, rotation.ErrPlan)
				assert.ErrorContains(t, err, tc.why)
				assert.ErrorContains(t, err, "web")
				return
			}
			assert.NilError(t, err)
			text := strings.Join(reasons, "; ")
			assert.Assert(t, strings.Contains(text, tc.why), text)
		})
	}
}

func TestTimingOf_ReadsTheLabels(t *testing.T) {
	of := func(opts ...hosttest.Option) (rotation.Timing, error) {
		return rotation.TimingOf(engine.Container{Name: "web", Spec: hosttest.Spec(opts...)})
	}
	got, err := of()
	assert.NilError(t, err)
	assert.Equal(t, got, rotation.Timing{Health: rotation.DefaultHealth, Monitor: rotation.DefaultMonitor, Drain: rotation.DefaultDrain})

	got, err = of(hosttest.Label(label.Health, "5m"), hosttest.Label(label.Monitor, "0s"), hosttest.Label(label.Drain, "1500ms"))
	assert.NilError(t, err)
	assert.Equal(t, got, rotation.Timing{Health: 5 * time.Minute, Drain: 1500 * time.Millisecond})

	_, err = of(hosttest.Label(label.Health, "5"), hosttest.Label(label.Drain, "-1s"))
	assert.ErrorIs(t, err, rotation.ErrPlan)
	assert.ErrorContains(t, err, `label dso.health.timeout="5" of web`)
	assert.ErrorContains(t, err, `label dso.drain.timeout="-1s" of web`)
}

// What is checked before a container is made is what is asked of it when it is rotated.
func TestLabels_ThatCannotBeReadAreThoseThatTheCheckRefuses(t *testing.T) {
	for _, name := range label.Known {
		if name == label.Strategy || name == label.Order || name == label.HostPorts { // they have words of their own
			continue
		}
		for _, text := range []string{"", "5s", "-5s", "10", "soon", "many", "true", "false", "maybe", "0", "99999999", "SIGHUP"} {
			c := engine.Container{Name: "web", Spec: hosttest.Spec(hosttest.Label(name, text))}
			_, timing := rotation.TimingOf(c)
			_, turns := rotation.TurnsOf(c)
			_, _, strategy := rotation.Choose(rotation.Observed{Container: c})
			err := errors.Join(timing, turns, strategy)
			assert.Equal(t, err == nil, label.Check(name, text) == nil, "%s=%q: %v", name, text, err)
		}
	}
}
