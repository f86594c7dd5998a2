package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// listen serves an API of an engine that answers every question with info, and
// returns its address.
func listen(t *testing.T, info string, changes *atomic.Int32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", path)
	assert.NilError(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			changes.Add(1)
		}
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, info)
	}))
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return "unix://" + path
}

func TestIdentity_IsTheIDAndTheDataRoot(t *testing.T) {
	c, err := engine.Open(listen(t, `{"ID":"4b","DockerRootDir":"/var/lib/docker"}`, new(atomic.Int32)), nil)
	assert.NilError(t, err)
	id, err := c.Identity(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, id, engine.Identity{ID: "4b", DataRoot: "/var/lib/docker"})
}

func TestOpen_NothingIsChangedAgainstTheGuardsWord(t *testing.T) {
	refusal := fmt.Errorf("not ours: %w", errdefs.ErrUnavailable)
	var changes atomic.Int32
	c, err := engine.Open(listen(t, `{}`, &changes), func() error { return refusal })
	assert.NilError(t, err)
	assert.NilError(t, c.Ping(t.Context()))
	ctx, spec := t.Context(), engine.Spec{Config: &container.Config{Image: "x"}, HostConfig: &container.HostConfig{}}
	_, createErr := c.Create(ctx, "x", spec)
	check := engine.Container{ID: "x", Spec: engine.Spec{Config: &container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}}}}}
	for call, err := range map[string]error{
		"create": createErr, "start": c.Start(ctx, "x"), "stop": c.Stop(ctx, "x"), "restart": c.Restart(ctx, "x"),
		"remove": c.Remove(ctx, "x"), "rename": c.Rename(ctx, "x", "y"), "connect": c.Connect(ctx, "x", "n", nil),
		"disconnect": c.Disconnect(ctx, "x", "n"), "load": c.LoadImage(ctx, nil), "check": c.RunHealthcheck(ctx, check),
		"policy": c.SetRestartPolicy(ctx, "x", container.RestartPolicy{}),
	} {
		assert.Assert(t, errors.Is(err, refusal), "%s: %v", call, err)
		assert.Assert(t, engine.Unavailable(err), "%s: a rotation waits: %v", call, err)
	}
	assert.Equal(t, changes.Load(), int32(0))
}
