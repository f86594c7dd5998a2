package recovery

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// during runs meddle when the agent has begun a step of the rotation to value.
func (s *scene) during(step, value string, meddle func()) {
	s.t.Helper()
	s.set(value)
	lab.Eventually(s.t, "the rotation comes to "+step, func() bool {
		return strings.Contains(s.log(), `"strategy":"rolling","phase":"forward","step":"`+step+`"`)
	})
	meddle()
}

func TestMeddling_RestartOfTheOriginalMidRotation(t *testing.T) {
	s := begin(t, "restarted")
	s.during("gate", "v2", func() { s.docker("restart", "-t", "1", s.web) })
	s.settles("v2")
}

func TestMeddling_RemovalOfTheOriginalMidRotation(t *testing.T) {
	s := begin(t, "removed")
	s.during("gate", "v2", func() { s.docker("rm", "-f", s.web) })
	s.settles("v2")
}

func TestMeddling_ComposeUpMidRotation(t *testing.T) {
	s := begin(t, "composed")
	finish := s.underLoad()
	s.during("gate", "v2", func() {
		out, err := shared.DSOIn(t.Context(), s.dir, "", "up", "-d")
		assert.NilError(t, err, out)
	})
	s.settles("v2")
	finish()
	assert.Equal(t, strings.Count(s.docker("ps", "-a", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}"), "\n"), 0)
}

// The rotation knows its containers by their ids: it goes on, and the place has its
// name again.
func TestMeddling_RenameOfTheOriginalMidRotation(t *testing.T) {
	s := begin(t, "renamed")
	finish := s.underLoad()
	s.during("gate", "v2", func() { s.docker("rename", s.web, "renamed-by-a-person") })
	s.settles("v2")
	finish()
	assert.Equal(t, s.docker("ps", "-a", "--filter", "name=renamed-by-a-person", "--format", "{{.Names}}"), "")
}

// Somebody who stops the original in the middle of its rotation gets the new version:
// it was asked for before, and is about to run.
func TestMeddling_StopOfTheOriginalMidRotation(t *testing.T) {
	s := begin(t, "stopped")
	s.during("gate", "v2", func() { s.docker("stop", "-t", "1", s.web) })
	s.settles("v2")
}

func TestMeddling_ForcedRecreationMidRotation(t *testing.T) {
	s := begin(t, "recreated")
	s.during("gate", "v2", func() {
		out, err := shared.DSOIn(t.Context(), s.dir, "", "up", "-d", "--force-recreate", "web")
		assert.NilError(t, err, out)
	})
	s.settles("v2")
	assert.Equal(t, strings.Count(s.docker("ps", "-a", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}"), "\n"), 0)
}
