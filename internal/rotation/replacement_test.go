package rotation_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// replaced makes a container on an engine and returns it, its replacement's
// specification, and the replacement that the engine makes of that.
func replaced(t *testing.T, img enginetest.Image, behindFront bool, opts ...hosttest.Option) (c engine.Container, spec engine.Spec, clone engine.Container) {
	t.Helper()
	e := enginetest.New()
	e.AddImage(hosttest.Image, img)
	id, err := e.Create(t.Context(), "web", hosttest.Spec(opts...))
	assert.NilError(t, err)
	assert.NilError(t, e.Start(t.Context(), id))
	c, err = e.Inspect(t.Context(), id)
	assert.NilError(t, err)
	spec, err = rotation.Replacement(c, "r1", c.Spec.Config.Image, behindFront)
	assert.NilError(t, err)
	id, err = e.Create(t.Context(), "web_dso_new_1", spec)
	assert.NilError(t, err)
	clone, err = e.Inspect(t.Context(), id)
	assert.NilError(t, err)
	return c, spec, clone
}

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

var plain = enginetest.Image{ID: "sha256:one"}

func TestReplacement_DoesNotCarryTheOldShortID(t *testing.T) {
	c, spec, clone := replaced(t, plain, false, hosttest.Service("app", "web"))
	assert.Equal(t, c.Spec.Config.Hostname, c.ShortID())
	assert.Equal(t, spec.Config.Hostname, "")
	assert.DeepEqual(t, spec.Networks["app_default"].Aliases, []string{"web"})
	assert.Equal(t, clone.Spec.Config.Hostname, clone.ShortID())
	assert.DeepEqual(t, clone.Networks["app_default"].Aliases, []string{"web", clone.ShortID()})
}

func TestReplacement_KeepsAHostnameThatTheUserChose(t *testing.T) {
	for _, name := range []string{"db", "web-1"} {
		c := engine.Container{ID: "db" + strings.Repeat("0", 62), Name: "web", Spec: hosttest.Spec()}
		c.Spec.Config.Hostname = name // its first letters may be the id's
		spec, err := rotation.Replacement(c, "r1", hosttest.Image, false)
		assert.NilError(t, err)
		assert.Equal(t, spec.Config.Hostname, name)
	}
}

func TestReplacement_BehindAFrontHasNoAliases(t *testing.T) {
	_, spec, _ := replaced(t, plain, true, hosttest.Service("app", "web"))
	assert.Equal(t, len(spec.Networks["app_default"].Aliases), 0)
}

func TestReplacement_KeepsAnonymousVolumes(t *testing.T) {
	withMount := func(m mount.Mount) hosttest.Option {
		return host(func(h *container.HostConfig) { h.Mounts = append(h.Mounts, m) })
	}
	for name, tc := range map[string]struct {
		img  enginetest.Image
		opts []hosttest.Option
	}{
		"of the image":               {img: enginetest.Image{ID: "sha256:db", Volumes: []string{"/data", "/log/"}}},
		"of docker run -v /data":     {img: plain, opts: []hosttest.Option{func(s *engine.Spec) { s.Config.Volumes = map[string]struct{}{"/data": {}} }}},
		"of --mount without source":  {img: plain, opts: []hosttest.Option{withMount(mount.Mount{Type: mount.TypeVolume, Target: "/data"})}},
		"read-only":                  {img: plain, opts: []hosttest.Option{withMount(mount.Mount{Type: mount.TypeVolume, Target: "/data", ReadOnly: true})}},
		"beside named ones":          {img: enginetest.Image{ID: "sha256:db", Volumes: []string{"/data", "/log"}}, opts: []hosttest.Option{host(func(h *container.HostConfig) { h.Binds = []string{"logs:/log:ro"} })}},
		"beside directories":         {img: enginetest.Image{ID: "sha256:db", Volumes: []string{"/data"}}, opts: []hosttest.Option{host(func(h *container.HostConfig) { h.Binds = []string{"/srv/:/etc/app/"} })}},
		"of the image, named by -v":  {img: enginetest.Image{ID: "sha256:db", Volumes: []string{"/data"}}, opts: []hosttest.Option{host(func(h *container.HostConfig) { h.Binds = []string{"mine:/data"} })}},
		"of the image, over a mount": {img: enginetest.Image{ID: "sha256:db", Volumes: []string{"/data"}}, opts: []hosttest.Option{withMount(mount.Mount{Type: mount.TypeBind, Source: "/srv", Target: "/data/"})}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, clone := replaced(t, tc.img, false, tc.opts...)
			assert.Assert(t, len(c.Mounts) > 0)
			byPlace := func(ms []engine.Mount) map[string]engine.Mount {
				out := map[string]engine.Mount{}
				for _, m := range ms {
					out[m.Destination] = m
				}
				return out
			}
			assert.DeepEqual(t, byPlace(clone.Mounts), byPlace(c.Mounts))
		})
	}
}

func TestReplacement_OfAReplacementIsTheSame(t *testing.T) {
	_, first, clone := replaced(t, enginetest.Image{ID: "sha256:db", Volumes: []string{"/data"}}, false, hosttest.Service("app", "web"))
	second, err := rotation.Replacement(clone, "r1", clone.Spec.Config.Image, false)
	assert.NilError(t, err)
	assert.DeepEqual(t, second.HostConfig.Binds, first.HostConfig.Binds)
	assert.DeepEqual(t, second.Config.Labels, first.Config.Labels)
	assert.DeepEqual(t, second.Networks["app_default"].Aliases, first.Networks["app_default"].Aliases)
}

func TestReplacement_KeepsEveryNetworkAndNothingTheEngineFilledIn(t *testing.T) {
	c := engine.Container{ID: strings.Repeat("a", 64), Name: "web", Spec: hosttest.Spec()}
	c.Spec.HostConfig.NetworkMode = "front"
	c.Spec.Networks = map[string]*network.EndpointSettings{
		"front": {
			Aliases: []string{"web", c.ShortID()}, Links: []string{"db:database"}, DriverOpts: map[string]string{"o": "1"}, GwPriority: 7,
			IPAMConfig: &network.EndpointIPAMConfig{LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.1.1")}},
			NetworkID:  "n1", EndpointID: "e1", IPAddress: netip.MustParseAddr("172.18.0.2"), Gateway: netip.MustParseAddr("172.18.0.1"),
			IPPrefixLen: 16, MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}, DNSNames: []string{"web"},
		},
		"back": {Aliases: []string{c.ShortID()}, MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 2}},
		"none": nil,
	}
	spec, err := rotation.Replacement(c, "r1", hosttest.Image, false)
	assert.NilError(t, err)
	assert.DeepEqual(t, spec.Networks["front"], &network.EndpointSettings{
		Aliases: []string{"web"}, Links: []string{"db:database"}, DriverOpts: map[string]string{"o": "1"}, GwPriority: 7,
		IPAMConfig: &network.EndpointIPAMConfig{LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.1.1")}},
	}, cmpAddr)
	assert.DeepEqual(t, spec.Networks["back"], &network.EndpointSettings{Aliases: []string{}}, cmpAddr)
	assert.Equal(t, len(spec.Networks), 3)
}

func TestReplacement_IsMadeFromTheSameImage(t *testing.T) {
	c := engine.Container{ID: strings.Repeat("a", 64), Name: "web", ImageID: "sha256:one", Spec: hosttest.Spec()}
	same, err := rotation.Replacement(c, "r1", hosttest.Image, false)
	assert.NilError(t, err)
	assert.Equal(t, same.Config.Image, hosttest.Image)
	assert.Equal(t, same.Config.Labels[label.Image], "")

	moved, err := rotation.Replacement(c, "r1", c.ImageID, false)
	assert.NilError(t, err)
	assert.Equal(t, moved.Config.Image, "sha256:one")
	assert.Equal(t, moved.Config.Labels[label.Image], hosttest.Image)

	again, err := rotation.Replacement(engine.Container{ID: strings.Repeat("b", 64), Spec: moved}, "r2", "sha256:one", false)
	assert.NilError(t, err)
	assert.Equal(t, again.Config.Labels[label.Image], hosttest.Image, "the user's name is not lost")
}

func TestReplacement_OutlivesItsStop(t *testing.T) {
	_, spec, _ := replaced(t, plain, false, host(func(h *container.HostConfig) {
		h.AutoRemove = true
		h.ContainerIDFile = "/run/web.cid"
	}))
	assert.Assert(t, !spec.HostConfig.AutoRemove)
	assert.Equal(t, spec.HostConfig.ContainerIDFile, "")
}

func TestReplacement_AcceptsLegacyLinks(t *testing.T) {
	_, spec, _ := replaced(t, plain, false, host(func(h *container.HostConfig) { h.Links = []string{"/db:/web/database", "cache:cache"} }))
	assert.DeepEqual(t, spec.HostConfig.Links, []string{"db:database", "cache:cache"})
}

func TestReplacement_KeepsLabelsAndSaysWhoMadeIt(t *testing.T) {
	c, spec, _ := replaced(t, plain, false, hosttest.Service("app", "web"), hosttest.Label("mine", "x"))
	want := map[string]string{label.Rotation: "r1"}
	for k, v := range c.Labels() {
		want[k] = v
	}
	assert.DeepEqual(t, spec.Config.Labels, want)
	assert.Equal(t, c.Label(label.Rotation), "", "the original is not changed")
}

func TestReplacement_OfAContainerWithoutLabels(t *testing.T) {
	c := engine.Container{ID: strings.Repeat("a", 64), Name: "web", Spec: hosttest.Spec()}
	c.Spec.Config.Labels = nil
	spec, err := rotation.Replacement(c, "r1", hosttest.Image, false)
	assert.NilError(t, err)
	assert.Equal(t, spec.Config.Labels[label.Rotation], "r1")
}
