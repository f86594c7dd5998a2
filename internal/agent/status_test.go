package agent

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/notify"
)

func TestHealthOf(t *testing.T) {
	running := func(change func(*wire.ContainerStatus)) wire.Status {
		c := wire.ContainerStatus{Name: "web", State: "running", Health: "healthy", UpToDate: true}
		change(&c)
		return wire.Status{Containers: []wire.ContainerStatus{c}}
	}
	for name, tc := range map[string]struct {
		st   wire.Status
		want string
	}{
		"nothing":         {wire.Status{}, wire.Healthy},
		"well":            {running(func(*wire.ContainerStatus) {}), wire.Healthy},
		"changing over":   {running(func(c *wire.ContainerStatus) { c.UpToDate, c.Rotation = false, &wire.PendingRotation{} }), wire.Healthy},
		"waits for night": {running(func(c *wire.ContainerStatus) { c.UpToDate, c.Held = false, "held back" }), wire.Healthy},
		"old":             {running(func(c *wire.ContainerStatus) { c.UpToDate = false }), wire.Degraded},
		"unhealthy":       {running(func(c *wire.ContainerStatus) { c.Health = "unhealthy" }), wire.Degraded},
		"stale":           {running(func(c *wire.ContainerStatus) { c.Stale = &wire.Stale{Cause: "x"} }), wire.Degraded},
		"error":           {running(func(c *wire.ContainerStatus) { c.Error = "x" }), wire.Degraded},
		"did not work": {running(func(c *wire.ContainerStatus) {
			c.UpToDate, c.Pin = false, &wire.Pin{Failed: map[string]string{"a": "2"}}
		}), wire.Degraded},
		"waits its turn":   {running(func(c *wire.ContainerStatus) { c.Pinned, c.Pin = true, &wire.Pin{} }), wire.Healthy},
		"store down":       {wire.Status{Providers: []wire.ProviderStatus{{Name: "v", Status: "error", Secrets: 1}}}, wire.Degraded},
		"unused store":     {wire.Status{Providers: []wire.ProviderStatus{{Name: "v", Status: "error"}}}, wire.Healthy},
		"store never used": {wire.Status{Providers: []wire.ProviderStatus{{Name: "v", Status: "ok", Message: "not asked yet"}}}, wire.Healthy},
		"bad file":         {wire.Status{Configuration: &wire.RejectedConfiguration{File: "x"}}, wire.Degraded},
		"needs a person":   {wire.Status{Rotations: wire.RotationStatus{Open: []wire.PendingRotation{{NeedsPerson: true}}}}, wire.Critical},
		"pending":          {wire.Status{Rotations: wire.RotationStatus{Open: []wire.PendingRotation{{Step: "gate"}}}}, wire.Healthy},
	} {
		got, reasons := healthOf(tc.st)
		assert.Check(t, got == tc.want, "%s: %s", name, got)
		assert.Check(t, (len(reasons) == 0) == (got == wire.Healthy), "%s: %v", name, reasons)
	}
}

func TestDestinations_FollowTheConfiguration(t *testing.T) {
	r := newRig(t, "notifications:\n  - {name: a, url: 'http://x/', events: [agent]}\n  - {name: b, url: 'http://x/', secret: 0123456789abcdef}\n")
	var got [][]notify.Destination
	r.then(func(c *config.Config) { got = append(got, destinationsOf(c)) })
	assert.Equal(t, len(got), 1)
	assert.Equal(t, len(got[0]), 2)
	assert.DeepEqual(t, got[0][0].Topics, []string{"agent"})
	assert.Assert(t, got[0][0].Key == nil && got[0][1].Key != nil)
	assert.DeepEqual(t, got[0][1].Topics, config.DefaultTopics)
	r.write("version: 1\n", 0o600)
	r.reload(true)
	assert.Equal(t, len(got), 2)
	assert.Equal(t, len(got[1]), 0)
}
