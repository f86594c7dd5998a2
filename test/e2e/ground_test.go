package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	testengine "github.com/docker-secret-operator/dso/test/engine"
	"github.com/docker-secret-operator/dso/test/lab"
	"github.com/docker-secret-operator/dso/test/load"
)

// The ground that the other tests stand on: without DSO, an application loses no
// request, and the pretend database really refuses what it has to refuse. A
// failure here is the machine's, not the product's.

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	assert.NilError(t, err)
	return root
}

func ground(t *testing.T) *testengine.Engine {
	t.Helper()
	root := repository(t)
	e, err := testengine.Start(t.Context(), testengine.FromRepository(root))
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, e.Close()) })
	for _, app := range []string{"answerer", "datakeeper"} {
		health := `HEALTHCHECK --interval=1s --timeout=2s --retries=3 CMD ["/` + app + `", "healthcheck"]`
		assert.NilError(t, e.ImportStatic(t.Context(), app+":test", filepath.Join(root, "bin", app), health))
	}
	return e
}

func docker(t *testing.T, e *testengine.Engine, args ...string) string {
	t.Helper()
	out, err := e.Docker(t.Context(), args...)
	assert.NilError(t, err)
	return out
}

func healthy(t *testing.T, e *testengine.Engine, container string) {
	t.Helper()
	lab.Eventually(t, container+" is healthy", func() bool {
		return docker(t, e, "inspect", "-f", "{{.State.Health.Status}}", container) == "healthy"
	})
}

func TestGround_AnApplicationUnderLoadLosesNothing(t *testing.T) {
	e := ground(t)
	docker(t, e, "run", "-d", "--name", "web", "-p", "8080:8080", "-e", "APP_SECRET=v1", "answerer:test")
	healthy(t, e, "web")
	for name, mode := range map[string][]string{"connection per request": nil, "keep-alive": {"-keepalive"}} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "result.json")
			args := append([]string{"-url", "http://" + e.Address() + ":8080/", "-rate", "500", "-duration", "3s", "-out", out}, mode...)
			said, err := e.ClientCommand(t.Context(), "load", args...).CombinedOutput()
			assert.NilError(t, err, string(said))
			r, err := load.ReadFile(out)
			assert.NilError(t, err)
			t.Logf("%d requests, p50 %.1f ms, p99 %.1f ms, late %.1f ms", r.Requests, r.P50MS, r.P99MS, r.LateMS)
			assert.Assert(t, r.Requests > 1450, "%d requests", r.Requests)
			assert.Equal(t, r.Failed, 0, "%v", r.Errors)
			assert.Equal(t, r.Answer("v1").Count, r.Requests)
		})
	}
}

func TestGround_ADatakeeperRefusesASecondOnItsVolume(t *testing.T) {
	e := ground(t)
	docker(t, e, "run", "-d", "--name", "db", "-v", "data:/data", "datakeeper:test")
	healthy(t, e, "db")
	docker(t, e, "run", "-d", "--name", "second", "-v", "data:/data", "datakeeper:test")
	assert.Equal(t, docker(t, e, "wait", "second"), "3")
	assert.Assert(t, strings.Contains(docker(t, e, "logs", "second"), "two at once"))
	docker(t, e, "restart", "db")
	healthy(t, e, "db")
}

const project = `
services:
  web:
    image: answerer:test
    ports: ["8080:8080"]
    environment: {APP_SECRET: v7}
`

func TestGround_ComposeRunsOnThePrivateEngine(t *testing.T) {
	e := ground(t)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(project), 0o600))
	compose := func(args ...string) string {
		out, err := e.CommandIn(t.Context(), dir, "docker", append([]string{"compose"}, args...)...).CombinedOutput()
		assert.NilError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	compose("up", "-d", "--wait")
	answer, err := e.ClientCommand(t.Context(), "answerer", "get", "http://"+e.Address()+":8080/").CombinedOutput()
	assert.NilError(t, err, string(answer))
	assert.Equal(t, string(answer), "v7\n")
	assert.Equal(t, compose("ps", "--services"), "web")
	compose("down")
	assert.Equal(t, docker(t, e, "ps", "-aq"), "")
}
