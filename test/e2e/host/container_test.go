package host

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// The agent as a container: the engine keeps it alive, and everything else is as with
// the service.
func TestContainer_TheAgentIsOneAndBootsWithTheHost(t *testing.T) {
	d := newHost(t)
	d.engineAnswers()
	d.images()
	bare := d.picture()
	d.install()
	d.run("docker", "dso", "setup", "--container", "--yes")
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "setup", "--container", "--yes"), "nothing to do"))
	d.run("docker", "dso", "init")
	d.set("app/marker", "v1")
	f := d.fleet()
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), "kept alive by docker, starts at boot"))
	d.shop()
	f.up("v2")
	for name, off := range map[string]func() error{"shut down": d.ShutDown, "power cut": d.CutPower} {
		assert.NilError(t, off())
		assert.NilError(t, d.SwitchOn(t.Context()))
		d.engineAnswers()
		d.eventually("the agent answers", func() bool {
			_, err := d.Run(t.Context(), "docker", "dso", "locks")
			return err == nil
		})
		t.Log("after a " + name)
		f.up("v2")
		d.answers("v2")
	}
	d.set("app/marker", "v3")
	d.answers("v3")
	f.up("v3")
	assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "logs", "-n", "500"), "agent ready"))
	d.run("docker", "dso", "system", "restart")
	d.eventually("the agent answers", func() bool {
		_, err := d.Run(t.Context(), "docker", "dso", "locks")
		return err == nil
	})
	d.sh("cd /srv/shop && docker dso down && rm -r /srv/shop")
	d.run("docker", "rm", "-f", plain, byEnv, byFile, "stopped")
	d.run("docker", "dso", "setup", "--uninstall", "--yes", "--purge")
	d.run("apt-get", "purge", "-y", "-qq", "docker-dso")
	assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
}
