package address

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestMove_BehindAFrontWaitsForAWord(t *testing.T) {
	own := strings.Replace(fmt.Sprintf(web, `"8320:8080"`), "dso.monitor: 200ms", "dso.update.strategy: restart", 1)
	dir := up(t, "move", own)
	first := docker(t, "inspect", "-f", "{{.Id}}", "move-web-1")
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), fmt.Appendf(nil, web, `"8320:8080"`), 0o600))

	out, err := shared.DSOIn(t.Context(), dir, "", "up", "-d")
	assert.Assert(t, err != nil, "nobody was asked: %s", out)
	for _, said := range []string{"move-web-1 publishes", "--yes", "dso.update.strategy=restart"} {
		assert.Assert(t, strings.Contains(out, said), out)
	}
	assert.Equal(t, docker(t, "inspect", "-f", "{{.Id}}", "move-web-1"), first)
	assert.Equal(t, outside(t, url(8320, "")), "v1")

	out, err = shared.DSOIn(t.Context(), dir, "", "up", "-d", "--wait", "--yes")
	assert.NilError(t, err, out)
	assert.Equal(t, docker(t, "inspect", "-f", `{{index .Config.Labels "dso.front"}}`, "move-web-1"), "web-front")
	assert.Equal(t, outside(t, url(8320, "")), "v1")
	set(t, "move/marker", "v2")
	assert.Equal(t, outside(t, url(8320, "")), "v2")

	// Once it is there nothing is asked any more.
	out, err = shared.DSOIn(t.Context(), dir, "", "up", "-d", "--wait")
	assert.NilError(t, err, out)
}

// Plain docker compose without the second file is the way back. With the front still
// there it says that the port is taken; --remove-orphans takes the front away.
func TestMove_BackWithoutDSOsFile(t *testing.T) {
	withRuntime := strings.Replace(fmt.Sprintf(web, `"8321:8080"`), "image:", "runtime: dso\n    image:", 1)
	dir := up(t, "back", withRuntime)
	inLane(t, 8321)
	out, err := shared.CommandIn(t.Context(), dir, "docker", "compose", "up", "-d", "--remove-orphans", "--wait").CombinedOutput()
	assert.NilError(t, err, string(out))
	assert.Equal(t, outside(t, url(8321, "")), "v1")
	assert.Assert(t, !strings.Contains(docker(t, "ps", "-a", "--format", "{{.Names}}"), "back-web-front"))
	lab.Eventually(t, "the lane has left the port", func() bool {
		return !strings.Contains(host(t, "nft", "list", "table", "inet", "dso_lane"), "8321")
	})
	set(t, "back/marker", "v2") // restarted in place now
	lab.Eventually(t, "the new version answers", func() bool { return outside(t, url(8321, "")) == "v2" })
}
