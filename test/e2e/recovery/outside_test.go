package recovery

import (
	"slices"
	"strconv"
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
		{"it ends after a restart", nil, func(id string) {
			docker("restart", id)
			assert.NilError(t, unix.Kill(process(id), unix.SIGKILL))
		}, nil},
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
			ct, err := c.Inspect(t.Context(), id)
			assert.NilError(t, err)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				tc.end(id)
			}()
			got, err := lastSignals(t, c, ct)
			<-ended
			if !shared.Running() {
				assert.NilError(t, shared.StartDaemon(t.Context()))
			}
			docker("rm", "-f", id)
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

// starting has the health check of web fail until it is released: a rotation waits at its
// gate that long.
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
	out, err := shared.DSO(s.t.Context(), "status", "--json")
	assert.NilError(s.t, err, out)
	assert.Assert(s.t, !strings.Contains(out, "did not work"), out)
}

func TestMeddling_StopOfTheReplacementMidRotation(t *testing.T) {
	for i, how := range []string{"stop", "kill"} {
		s := begin(t, "halted-"+how)
		marker := "v" + strconv.Itoa(i+2)
		s.during("gate", marker, func() { s.docker(how, s.replacement()) })
		s.settles(marker)
		s.unpinned()
	}
}

func TestEngine_StoppedInTheGateLeavesTheVersionUnblamed(t *testing.T) {
	s := begin(t, "graceful")
	s.during("gate", "v2", func() {
		s.replacement()
		assert.NilError(t, shared.Stop())
		assert.NilError(t, shared.StartDaemon(t.Context()))
	})
	s.settles("v2")
	s.unpinned()
}
