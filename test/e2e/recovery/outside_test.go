package recovery

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/test/lab"
)

// The rotation tells by the engine's history whether a container was stopped, or has
// ended by itself. This is what a real one remembers, when it says that it does not run.
func TestEngine_RemembersTheSignalsOfWhatWasStopped(t *testing.T) {
	c, err := engine.Open("unix://"+shared.Socket(), nil)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	docker := func(args ...string) {
		out, err := shared.Docker(t.Context(), args...)
		assert.Check(t, err, out)
	}
	process := func(id string) int {
		ct, err := c.Inspect(t.Context(), id)
		assert.NilError(t, err)
		return ct.State.Pid
	}
	for _, tc := range []struct {
		name string
		args []string
		end  func(id string)
		want []unix.Signal
	}{
		{"docker stop", nil, func(id string) { docker("stop", id) }, []unix.Signal{unix.SIGTERM}},
		{"docker kill", []string{"--restart=always"}, func(id string) { docker("kill", id) }, []unix.Signal{unix.SIGKILL}},
		{"its own stop signal", []string{"--stop-signal=SIGINT"}, func(id string) { docker("stop", id) }, []unix.Signal{unix.SIGINT}},
		{"it ends", nil, func(id string) { assert.NilError(t, unix.Kill(process(id), unix.SIGTERM)) }, nil},
		{"the kernel kills it", nil, func(id string) { assert.NilError(t, unix.Kill(process(id), unix.SIGKILL)) }, nil},
		{"it ends after it was restarted", nil, func(id string) { assert.NilError(t, unix.Kill(process(id), unix.SIGKILL)) }, nil},
		{"it is started again by its policy", []string{"--restart=always", "-e", "APP_SECRET=bad"}, func(id string) {
			lab.Eventually(t, "it was started again", func() bool {
				ct, err := c.Inspect(t.Context(), id)
				return err == nil && ct.State.RestartCount > 1
			})
		}, nil},
		{"the engine ends", nil, func(string) { assert.Check(t, shared.Stop()) }, []unix.Signal{unix.SIGTERM}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := slices.Concat([]string{"run", "-d", "-e", "APP_SECRET=v1", "-e", "APP_EXIT_IF=bad"}, tc.args, []string{"answerer:test"})
			id, err := shared.Docker(t.Context(), args...)
			assert.NilError(t, err)
			if strings.Contains(tc.name, "restarted") {
				docker("restart", id)
			}
			ct, err := c.Inspect(t.Context(), id)
			assert.NilError(t, err)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				tc.end(id)
			}()
			got, err := lastSignals(t, c, ct)
			accepts := c.Accepts(t.Context())
			<-ended
			if !shared.Running() {
				assert.NilError(t, shared.StartDaemon(t.Context()))
			}
			docker("rm", "-f", id)
			assert.Equal(t, engine.Unavailable(accepts), tc.name == "the engine ends", "%v", accepts)
			if engine.Unavailable(err) && tc.name == "the engine ends" {
				return // it is gone as well, which the rotation waits for
			}
			assert.NilError(t, err)
			assert.DeepEqual(t, got, tc.want)
		})
	}
}

// lastSignals are those that are remembered in the moment in which the container is first
// said not to run.
func lastSignals(t *testing.T, c *engine.Client, ct engine.Container) ([]unix.Signal, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		now, err := c.Inspect(t.Context(), ct.ID)
		if err != nil {
			return nil, err
		}
		if !now.Running() {
			return c.Signals(t.Context(), now.ID, now.State.StartedAt)
		}
	}
	return nil, nil
}

// replacement returns the id of the replacement of web, once it runs.
func (s *scene) replacement() string {
	s.t.Helper()
	var id string
	lab.Eventually(s.t, "the replacement runs", func() bool {
		id = s.docker("ps", "-q", "--no-trunc", "--filter", "name="+s.web+"_dso_new_")
		return id != "" && !strings.Contains(id, "\n")
	})
	return id
}

// unpinned requires that no version is kept off.
func (s *scene) unpinned() {
	s.t.Helper()
	pins, err := shared.Pins()
	assert.NilError(s.t, err)
	assert.Equal(s.t, len(pins), 0, "%v", pins)
}

// slow is a project whose web needs some seconds until it is healthy.
var slow = strings.Replace(project, "environment: {", `healthcheck: {interval: 1s, timeout: 2s, retries: 2, start_period: 30s}
    environment: {START_DELAY: "3000", `, 1)

func TestMeddling_StopOfTheReplacementMidRotation(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		t.Run("docker "+how, func(t *testing.T) {
			s := beginWith(t, "halted-"+how, slow)
			s.during("gate", "v2", func() { s.docker(how, s.replacement()) })
			s.settles("v2")
			s.unpinned()
		})
	}
}

func TestEngine_StoppedInTheGateLeavesTheVersionUnblamed(t *testing.T) {
	s := beginWith(t, "graceful", slow)
	s.during("gate", "v2", func() {
		s.replacement()
		assert.NilError(t, shared.Stop())
		assert.NilError(t, shared.StartDaemon(t.Context()))
	})
	s.settles("v2")
	s.unpinned()
	assert.Assert(t, !strings.Contains(s.log(), "rotation turns back"), "the rotation waits for the engine, and goes on")
}
