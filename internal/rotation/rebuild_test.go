package rotation_test

import (
	"os"
	"testing"
	"testing/synctest"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// loseJournal removes every generation of the journal, as a person might.
func (s *scene) loseJournal(t *testing.T) {
	t.Helper()
	for _, file := range []string{s.JournalPath(), s.JournalPath() + ".last"} {
		if err := os.Remove(file); !os.IsNotExist(err) {
			assert.NilError(t, err)
		}
	}
}

func TestRebuild_AfterADeathAnywhereTheContainersTellTheRotation(t *testing.T) {
	for _, c := range changes() {
		if c.strategy != rotation.Rolling {
			continue
		}
		for _, point := range c.points(t) {
			t.Run(c.String()+"/"+point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := c.arrange(t)
					assert.Assert(t, s.rotateUntil(point))
					s.loseJournal(t)
					s.boot(t)
					_, err := s.Journal.Adopt(rotation.Rebuild(s.Engine.All()))
					assert.NilError(t, err)
					s.recoverPending(t)
					s.checkPlace(t)
				})
			})
		}
	}
}

// checkPlace asserts what holds however much was lost: one healthy container in
// the place, as the user specified it, and no other.
func (s *scene) checkPlace(t *testing.T) {
	t.Helper()
	all := s.Engine.All()
	assert.Equal(t, len(all), 1)
	web := all[0]
	assert.Equal(t, web.Name, "web")
	assert.Assert(t, web.Running())
	assert.DeepEqual(t, web.Spec.HostConfig.RestartPolicy, s.original.Spec.HostConfig.RestartPolicy)
	assert.DeepEqual(t, web.Mounts, s.original.Mounts)
	if s.entry.Front != nil {
		assert.DeepEqual(t, s.Fronts.Targets(s.entry.Front.Key), []string{web.ShortID()})
	}
}

func TestRebuild_NamesAndLabelsOfOthersProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := changes()[0]
		s := c.arrange(t)
		assert.NilError(t, s.rotate(t.Context()))
		finished := s.Container(t, "web")
		stranger := finished
		stranger.ID, stranger.Name = "f00d", "web_dso_new_1"
		copied := finished
		copied.ID, copied.Name = "beef", "copy-of-web"
		plain := engine.Container{ID: "cafe", Name: "web_dso_backup_1"}
		entries := rotation.Rebuild([]engine.Container{finished, stranger, copied, plain})
		assert.Equal(t, len(entries), 0)
	})
}
