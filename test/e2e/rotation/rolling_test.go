package rotation

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

const web = `
services:
  web:
    image: answerer:test
    ports: ["%d:8080"]
    environment: {APP_SECRET: "dso://marker"}
    labels: {dso.monitor: 500ms}
`

func TestRolling_ClientsThatConnectEachTimeNoticeNothing(t *testing.T) {
	begin(t)
	set(t, "rolling/marker", "v1")
	up(t, "rolling", fmt.Sprintf(web, 8101))
	floor, finish := startLoad(t, url(8101))
	for _, v := range []string{"v2", "v3"} {
		set(t, "rolling/marker", v)
		floor(v)
	}
	finish()
	noLeftovers(t)
}

func TestRolling_ClientsThatKeepTheirConnectionsNoticeNothing(t *testing.T) {
	begin(t)
	set(t, "keepalive/marker", "v1")
	up(t, "keepalive", fmt.Sprintf(web, 8102))
	floor, finish := startLoad(t, url(8102), "-keepalive")
	set(t, "keepalive/marker", "v2")
	floor("v2")
	finish()
	noLeftovers(t)
}

// A client inside the network reaches the service by its name: one resolves it
// for each request, the other once and for ever.
func TestRolling_ClientsByNameInTheNetworkNoticeNothing(t *testing.T) {
	begin(t)
	set(t, "byname/marker", "v1")
	up(t, "byname", fmt.Sprintf(web, 8103))
	remove(t, "each", "once")
	for name, more := range map[string]string{"each": "-keepalive=false", "once": "-resolve-once"} {
		docker(t, "run", "-d", "--name", name, "--network", "byname_default", "load:test", "-url", "http://web:8080/", "-rate", "100", "-duration", "9s", more)
	}
	set(t, "byname/marker", "v2")
	for _, name := range []string{"each", "once"} {
		docker(t, "wait", name)
		out := docker(t, "logs", name)
		assert.Assert(t, strings.Contains(out, `"failed": 0`) || strings.Contains(out, `"failed":0`), "%s: %s", name, out)
		assert.Assert(t, strings.Contains(out, "v2"), "%s: %s", name, out)
	}
}

func TestRolling_ReplicasChangeOneAfterTheOther(t *testing.T) {
	begin(t)
	set(t, "replicas/marker", "v1")
	up(t, "replicas", fmt.Sprintf(web, 8104)+"    scale: 3\n")
	floor, finish := startLoad(t, url(8104))
	out := set(t, "replicas/marker", "v2")
	floor("v2")
	finish()
	assert.Equal(t, strings.Count(out, ": rotated (rolling"), 3, out)
	for i := 1; i <= 3; i++ {
		name := fmt.Sprintf("replicas-web-%d", i)
		lab.Eventually(t, "the engine has seen that it is healthy", func() bool { return inspect(t, name, "{{.State.Health.Status}}") == "healthy" })
	}
	noLeftovers(t)
}

func TestRolling_SameServiceOfTwoProjectsIsTwoServices(t *testing.T) {
	begin(t)
	set(t, "one/marker", "v1")
	set(t, "two/marker", "v5")
	up(t, "one", fmt.Sprintf(web, 8105))
	up(t, "two", fmt.Sprintf(web, 8106))
	before := inspect(t, "two-web-1", "{{.Id}}")
	out := set(t, "one/marker", "v2")
	assert.Assert(t, !strings.Contains(out, "two-web-1"), out)
	assert.Equal(t, answer(t, url(8105)), "v2")
	assert.Equal(t, answer(t, url(8106)), "v5")
	assert.Equal(t, inspect(t, "two-web-1", "{{.Id}}"), before)
}

func TestRolling_ComposeSeesTheProjectAsEver(t *testing.T) {
	begin(t)
	set(t, "compose/marker", "v1")
	dir := up(t, "compose", fmt.Sprintf(web, 8107))
	set(t, "compose/marker", "v2")
	id := inspect(t, "compose-web-1", "{{.Id}}")
	out, err := shared.DSOIn(t.Context(), dir, "", "up", "-d")
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(out, "Recreate"), out)
	assert.Equal(t, inspect(t, "compose-web-1", "{{.Id}}"), id, "compose up leaves a rotated container alone")
	for _, args := range [][]string{{"ps"}, {"logs", "web"}, {"exec", "-T", "web", "/answerer", "healthcheck"}, {"restart", "web"}} {
		out, err := shared.DSOIn(t.Context(), dir, "", append([]string{"compose"}, args...)...)
		assert.NilError(t, err, out)
	}
	lab.Eventually(t, "the restarted application answers", func() bool {
		out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url(8107)).CombinedOutput()
		return strings.TrimSpace(string(out)) == "v2"
	})
}

func TestRolling_ABadVersionIsRolledBackAndPinned(t *testing.T) {
	begin(t)
	set(t, "bad/marker", "v1")
	up(t, "bad", fmt.Sprintf(web, 8108)+"    restart: always\n"+`    healthcheck: {test: ["CMD", "/answerer", "healthcheck"], interval: 500ms, retries: 1}`+"\n")
	// The marker is bad for this application from the next version on.
	id := inspect(t, "bad-web-1", "{{.Id}}")
	floor, finish := startLoad(t, url(8108))
	floor("v1")
	out, err := shared.DSOIn(t.Context(), "/", "", "secret", "set", "bad/marker", "--allow-empty")
	assert.ErrorContains(t, err, "exit status 6")
	assert.Assert(t, strings.Contains(out, "rolled back"), out)
	assert.Equal(t, inspect(t, "bad-web-1", "{{.Id}}"), id, "the original was never touched")
	assert.Equal(t, answer(t, url(8108)), "v1")
	assert.Equal(t, inspect(t, "bad-web-1", "{{.HostConfig.RestartPolicy.Name}}"), "always")
	finish()

	docker(t, "kill", "bad-web-1")
	docker(t, "start", "bad-web-1")
	lab.Eventually(t, "a crash restart gets the pinned version", func() bool {
		out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url(8108)).CombinedOutput()
		return strings.TrimSpace(string(out)) == "v1"
	})
	assert.Assert(t, strings.Contains(dso(t, "status"), "pinned"))

	set(t, "bad/marker", "v3")
	assert.Equal(t, answer(t, url(8108)), "v3")
	assert.Assert(t, !strings.Contains(dso(t, "status"), "pinned"))
	noLeftovers(t)
}

// The agent is killed at many moments of a rotation; each time another agent
// carries it on and no request is lost.
func TestRolling_TheAgentMayDieAtAnyMoment(t *testing.T) {
	begin(t)
	set(t, "kill/marker", "v1")
	up(t, "kill", fmt.Sprintf(web, 8109))
	floor, finish := startLoad(t, url(8109))
	version := 1
	for _, after := range []time.Duration{20, 100, 250, 450, 900, 1500, 2000, 2300, 2500} {
		version++
		marker := fmt.Sprintf("v%d", version)
		_, err := shared.DSOIn(t.Context(), "/", marker, "secret", "set", "kill/marker", "--no-wait")
		assert.NilError(t, err)
		<-time.After(after * time.Millisecond) // a moment of the rotation, not a wait for something
		assert.NilError(t, shared.KillAgent())
		assert.NilError(t, shared.StartAgent(t.Context()))
		set(t, "kill/marker", marker) // unchanged: waits for what is going on
		assert.Equal(t, answer(t, url(8109)), marker)
		floor(marker)
		noLeftovers(t)
	}
	finish()
}

func TestRolling_SIGTERMParksTheRotationAndTheNextAgentCarriesItOn(t *testing.T) {
	begin(t)
	set(t, "park/marker", "v1")
	up(t, "park", fmt.Sprintf(web, 8110))
	floor, finish := startLoad(t, url(8110))
	assert.NilError(t, shared.StopAgent())
	// The gate may take no longer than a look at it: the agent stops itself there.
	ready, err := shared.LaunchAgent(t.Context(), []string{"DSO_FAILPOINT=rolling/forward/gate/before=stop"})
	assert.NilError(t, err)
	assert.NilError(t, ready(t.Context()))
	_, err = shared.DSOIn(t.Context(), "/", "v2", "secret", "set", "park/marker", "--no-wait")
	assert.NilError(t, err)
	pid := shared.AgentPID()
	lab.Eventually(t, "the rotation is at its gate", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	assert.NilError(t, errors.Join(syscall.Kill(pid, syscall.SIGTERM), syscall.Kill(pid, syscall.SIGCONT)))
	assert.ErrorContains(t, shared.AwaitAgentEnd(t.Context()), "as if it had been asked to")
	assert.Equal(t, answer(t, url(8110)), "v1", "nothing was cut over, nothing was stopped")
	assert.NilError(t, shared.StartAgent(t.Context()))
	assert.Equal(t, answer(t, url(8110)), "v2", "the agent is ready when its recovery is done")
	floor("v2")
	finish()
	noLeftovers(t)
}

func TestRolling_RestartingTheAgentRotatesNothing(t *testing.T) {
	begin(t)
	set(t, "quiet/marker", "v1")
	up(t, "quiet", fmt.Sprintf(web, 8111))
	before := inspect(t, "quiet-web-1", "{{.Id}} {{.State.StartedAt}}")
	assert.NilError(t, shared.StopAgent())
	assert.NilError(t, shared.StartAgent(t.Context()))
	set(t, "quiet/marker", "v1")
	assert.Equal(t, inspect(t, "quiet-web-1", "{{.Id}} {{.State.StartedAt}}"), before)
}

func TestRolling_NetworksAliasesAndHostnameCarryOver(t *testing.T) {
	begin(t)
	set(t, "nets/marker", "v1")
	docker(t, "network", "create", "front-side")
	docker(t, "network", "create", "back-side")
	t.Cleanup(func() { _, _ = shared.Docker(t.Context(), "network", "rm", "front-side", "back-side") })
	remove(t, "worker")
	docker(t, "create", "--runtime", "dso", "--name", "worker", "--network", "front-side", "--network-alias", "jobs",
		"-e", "APP_SECRET=dso://nets/marker", "--label", "dso.update.strategy=rolling", "--label", "dso.monitor=100ms", "answerer:test")
	docker(t, "network", "connect", "--alias", "deep", "back-side", "worker")
	docker(t, "start", "worker")
	old := inspect(t, "worker", "{{.Config.Hostname}}")
	set(t, "nets/marker", "v2")
	assert.Equal(t, docker(t, "exec", "worker", "/answerer", "get", "http://127.0.0.1:8080/"), "v2")
	assert.Assert(t, inspect(t, "worker", "{{.Config.Hostname}}") != old, "the default hostname is the new container's own id")
	aliases := inspect(t, "worker", `{{index .NetworkSettings.Networks "front-side" "Aliases"}} {{index .NetworkSettings.Networks "back-side" "Aliases"}}`)
	assert.Assert(t, strings.Contains(aliases, "jobs") && strings.Contains(aliases, "deep") && !strings.Contains(aliases, old), aliases)
	noLeftovers(t)
}
