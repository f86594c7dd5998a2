package address

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/test/lab"
)

// startLoads starts clients on another host that connect for each request, and others
// that keep their connections; finish ends them and wants every request answered.
func startLoads(t *testing.T, url string) (floor func(marker string), finish func()) {
	t.Helper()
	var loads []*lab.Load
	for _, more := range []string{"-keepalive=false", "-keepalive"} {
		l, err := shared.StartLoad(t.Context(), url, "-rate", "100", more)
		assert.NilError(t, err)
		loads = append(loads, l)
	}
	floor = func(marker string) {
		for _, l := range loads {
			assert.NilError(t, l.Floor(marker))
		}
	}
	finish = func() {
		t.Helper()
		for _, l := range loads {
			r, err := l.Stop()
			assert.NilError(t, err)
			assert.Check(t, r.Failed == 0, "%v", r.Errors)
			assert.Check(t, r.WrongVersion == 0, "%v", r.Answers)
		}
	}
	return floor, finish
}

func mainProcess(t *testing.T, container string) int {
	t.Helper()
	pid, err := strconv.Atoi(docker(t, "inspect", "-f", "{{.State.Pid}}", container))
	assert.NilError(t, err)
	return pid
}

// What comes from outside takes the lane, and the engine starts the front again for
// everybody else.
func TestFaults_AFrontThatIsKilledIsNotMissedFromOutside(t *testing.T) {
	up(t, "frontless", fmt.Sprintf(web, `"8330:8080"`))
	inLane(t, 8330)
	floor, finish := startLoads(t, url(8330, ""))
	killed := mainProcess(t, "frontless-web-front-1")
	assert.NilError(t, syscall.Kill(killed, syscall.SIGKILL))
	lab.Eventually(t, "the front is another process", func() bool {
		pid := mainProcess(t, "frontless-web-front-1")
		return pid != 0 && pid != killed
	})
	lab.Eventually(t, "the host itself is served by it", func() bool { return onHost(t, url(8330, "")) == "v1" })
	set(t, "frontless/marker", "v2")
	floor("v2")
	finish()
	assert.Equal(t, onHost(t, url(8330, "")), "v2")

	// One that somebody stops publishes nothing, and neither does the lane.
	docker(t, "stop", "-t", "1", "frontless-web-front-1")
	lab.Eventually(t, "the port refuses", func() bool { return outside(t, url(8330, "")) == "" })
	docker(t, "start", "frontless-web-front-1")
	inLane(t, 8330)
}

// The kernel forwards for a paused front as it did, and nobody can tell it to do otherwise:
// what it forwards to must not be stopped.
func TestFaults_AFrontThatIsPausedKeepsWhatItForwardsTo(t *testing.T) {
	dir := up(t, "asleep", fmt.Sprintf(web, `"8333:8080"`))
	docker(t, "pause", "asleep-web-front-1")
	t.Cleanup(func() { _, _ = shared.Docker(context.Background(), "unpause", "asleep-web-front-1") })
	out, err := shared.DSOIn(t.Context(), dir, "v2", "secret", "set", "marker")
	assert.ErrorContains(t, err, "rolled back")
	assert.Check(t, strings.Contains(out, "its front asleep-web-front-1 is paused"), out)
	assert.Equal(t, onHost(t, url(8333, "")), "v1")
	assert.Equal(t, outside(t, url(8333, "")), "v1")

	docker(t, "unpause", "asleep-web-front-1")
	out, err = shared.DSOIn(t.Context(), dir, "", "rotate", "marker")
	assert.NilError(t, err, out)
	assert.Equal(t, onHost(t, url(8333, "")), "v2")
}

// With live-restore the containers go on without their engine; so do their names, their
// ports and the lane, and rotations work as soon as the engine is back.
func TestFaults_AnEngineWithLiveRestoreMayBeRestartedUnderLoad(t *testing.T) {
	assert.NilError(t, shared.ReloadWith(t.Context(), map[string]any{"live-restore": true}))
	t.Cleanup(func() { assert.NilError(t, shared.ReloadWith(context.Background(), nil)) })
	up(t, "live", fmt.Sprintf(web, `"8331:8080"`)+"    restart: always\n")
	inLane(t, 8331)
	before := []int{mainProcess(t, "live-web-1"), mainProcess(t, "live-web-front-1")}
	floor, finish := startLoads(t, url(8331, ""))
	for name, end := range map[string]func() error{"stopped": shared.Stop, "killed": shared.Kill} {
		assert.NilError(t, end(), name)
		assert.Equal(t, outside(t, url(8331, "client")), otherHost)
		assert.Equal(t, onHost(t, url(8331, "")), "v1", "the front forwards without the engine")
		assert.NilError(t, shared.StartDaemon(t.Context()))
		assert.DeepEqual(t, []int{mainProcess(t, "live-web-1"), mainProcess(t, "live-web-front-1")}, before)
	}
	set(t, "live/marker", "v2")
	floor("v2")
	finish()
	assert.Equal(t, onHost(t, url(8331, "")), "v2")
	assert.Equal(t, mainProcess(t, "live-web-front-1"), before[1])
}

// Two of three change side by side; after a pause the third does.
func TestTurns_ReplicasChangeAsTheFileSays(t *testing.T) {
	up(t, "turns", fmt.Sprintf(web, `"8332:8080"`)+"    deploy: {replicas: 3, update_config: {parallelism: 2, delay: 3s}}\n")
	inLane(t, 8332)
	floor, finish := startLoads(t, url(8332, ""))
	begun := time.Now()
	set(t, "turns/marker", "v2")
	floor("v2")
	finish()

	rows, err := shared.Rotations(t.Context())
	assert.NilError(t, err)
	rows = slices.DeleteFunc(rows, func(r wire.Rotation) bool {
		return !strings.HasPrefix(r.Container, "turns-web-") || r.Started.Before(begun)
	})
	slices.SortFunc(rows, func(a, b wire.Rotation) int { return a.Started.Compare(b.Started) })
	assert.Equal(t, len(rows), 3, "%+v", rows)
	assert.Check(t, rows[1].Started.Before(rows[0].Updated), "two at once: %+v", rows)
	for _, first := range rows[:2] {
		assert.Check(t, rows[2].Started.Sub(first.Updated) >= 3*time.Second, "and then a pause: %+v", rows)
	}
}
