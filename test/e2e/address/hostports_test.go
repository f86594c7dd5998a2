package address

import (
	"context"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

const claims = `
services:
  web:
    image: answerer:test
    environment: {APP_SECRET: "dso://marker"}
    labels: {dso.monitor: 200ms, dso.host_ports: "8330:8080, 127.0.0.1:8331:8080/tcp, 8330:8080/udp"}
`

func TestHostPorts_TheFrontPublishesWhatTheLabelClaims(t *testing.T) {
	up(t, "claims", claims)
	inLane(t, 8330)
	assert.Equal(t, onHost(t, "http://127.0.0.1:8331/"), "v1")
	assert.Equal(t, outside(t, url(8331, "")), "", "as narrow as it was claimed")
	set(t, "claims/marker", "v2")
	assert.Equal(t, outside(t, url(8330, "")), "v2")
	assert.Equal(t, onHost(t, "http://127.0.0.1:8331/"), "v2")

	// Without a front the container publishes them itself.
	up(t, "claims2", strings.NewReplacer("dso.monitor: 200ms", "dso.update.strategy: restart", "8330:", "8332:", "8331:", "8333:").Replace(claims))
	assert.Equal(t, outside(t, url(8332, "")), "v1")
}

// refusedUp brings a project up, which must be refused with words, and leaves nothing.
func refusedUp(t *testing.T, name, text string, said ...string) {
	t.Helper()
	set(t, name+"/marker", "v1")
	dir, err := shared.Project(name, text)
	assert.NilError(t, err)
	t.Cleanup(func() { _, _ = shared.DSOIn(context.Background(), dir, "", "down", "-t", "1") })
	out, err := shared.DSOIn(t.Context(), dir, "", "up", "-d")
	assert.Assert(t, err != nil, out)
	for _, s := range said {
		assert.Assert(t, strings.Contains(out, s), "%q is not in: %s", s, out)
	}
	assert.Equal(t, docker(t, "ps", "-aq", "--filter", "label=com.docker.compose.project="+name), "")
}

func TestHostPorts_APortBelongsToOne(t *testing.T) {
	two := claims + strings.ReplaceAll(strings.TrimPrefix(claims, "\nservices:\n"), "  web:", "  shop:")
	refusedUp(t, "both", strings.ReplaceAll(two, "833", "834"), "services shop and web both claim port 8340")

	docker(t, "run", "-d", "--name", "squatter", "-p", "8350:8080", "-e", "APP_SECRET=x", "answerer:test")
	defer docker(t, "rm", "-f", "squatter")
	refusedUp(t, "taken", strings.ReplaceAll(claims, "833", "835"), "port 8350/tcp", "service web", "container squatter")

	ctx, stop := context.WithCancel(t.Context())
	program := shared.Command(ctx, "answerer", "splice", "0.0.0.0:8360", "127.0.0.1:1")
	assert.NilError(t, program.Start())
	defer func() { stop(); _ = program.Wait() }()
	lab.Eventually(t, "the program listens", func() bool { return strings.Contains(host(t, "ss", "-ltn"), ":8360 ") })
	refusedUp(t, "program", strings.ReplaceAll(claims, "833", "836"), "port 8360/tcp", "program answerer (pid")

	refusedUp(t, "wrong", strings.ReplaceAll(claims, "8330:8080,", "eighty:8080,"), "dso.host_ports", "eighty:8080")
	refusedUp(t, "unnamed", strings.ReplaceAll(claims, "8330:8080,", "8080,"), "dso.host_ports", "names no port of the host")
}
