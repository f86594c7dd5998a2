package operator

import (
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/test/lab"
)

// What a person pins stays as it is, whatever changes or starts anew, until it is let go.
func TestPin_HoldsUntilItIsLetGo(t *testing.T) {
	h := newHost(t)
	h.dso("init")
	h.set("shop/marker", "v1")
	h.docker("run", "-d", "--name", "web", "--runtime", "dso", "-e", "APP_SECRET=dso://shop/marker", "--label", "dso.monitor=100ms", lab.Answerer)
	assert.Equal(t, h.answers("web"), "v1")
	assert.Equal(t, h.dso("pin", "web"), "web is pinned to local:shop/marker v1; docker dso unpin web lets it go\n")

	s := h.try("/", "v2", "secret", "set", "shop/marker")
	assert.Equal(t, s.code, 6, s.out+s.err)
	assert.Assert(t, strings.Contains(s.out, "web: pinned by root"), s.out)
	for _, disturb := range []func(){
		func() {},
		func() { h.docker("restart", "-t", "1", "web") },
		func() { assert.NilError(t, h.KillAgent()); assert.NilError(t, h.StartAgent(t.Context())) },
		func() { h.docker("restart", "-t", "1", "web") },
		func() { h.try("/", "", "sync") },
	} {
		disturb()
		assert.Equal(t, h.answers("web"), "v1")
	}
	s = h.try("/", "", "status")
	assert.Equal(t, s.code, 0, "it is as somebody wants it: %s", s.out)
	assert.Assert(t, strings.Contains(s.out, " by root"), s.out)
	var d wire.ContainerDetail
	h.json(&d, "inspect", "web")
	assert.Equal(t, d.PinnedBy(), "root")
	var rows []audit.Record
	h.json(&rows, "audit", "--what", "ask", "--container", "web")
	assert.Assert(t, slices.ContainsFunc(rows, func(r audit.Record) bool {
		return r.Why == "pin" && r.Secret == "local:shop/marker" && r.Version == "1"
	}))

	h.dso("unpin", "web")
	assert.Equal(t, h.answers("web"), "v2")
	assert.Equal(t, h.try("/", "", "unpin", "web").code, 1)
	assert.Equal(t, h.try("/", "", "pin", "nosuch").code, 3)

	h.dso("pin", "web")
	assert.Equal(t, h.try("/", "v3", "secret", "set", "shop/marker").code, 6)
	assert.Assert(t, strings.Contains(h.dso("rotate", "web"), "web: rotated"))
	assert.Equal(t, h.answers("web"), "v3")
	var after wire.ContainerDetail
	h.json(&after, "inspect", "web")
	assert.Equal(t, after.PinnedBy(), "")
}
