package rotation_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

func over(n int, outcome rotation.Outcome) rotation.Entry {
	end := time.Unix(int64(1000*n), 0)
	return rotation.Entry{
		ID: fmt.Sprint("r", n), ProviderName: "local", SecretName: "a", OriginalContainerID: "c", ContainerName: "web",
		Status: rotation.StatusCompleted, Outcome: outcome, StartTime: end.Add(-2 * time.Second), LastUpdate: end,
	}
}

func history(t *testing.T, path string) *rotation.History {
	t.Helper()
	h, err := rotation.OpenHistory(path, time.Now())
	assert.NilError(t, err)
	return h
}

// A container is in the journal once, and here as often as it was rotated.
func TestHistory_CountsEachRotationOnceAndForGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h := history(t, path)
	for n := range 6 {
		assert.NilError(t, h.Note(over(n, rotation.OutcomeRotated)))
	}
	assert.NilError(t, h.Note(over(6, rotation.OutcomeRolledBack), over(7, rotation.OutcomeAdopted)))
	pending := over(8, "")
	pending.Step = rotation.StepGate
	assert.NilError(t, h.Note(pending))
	want := rotation.Totals{Successful: 7, Failed: 1, Seconds: 14}
	assert.Equal(t, h.Totals(), want)

	h = history(t, path)
	assert.NilError(t, h.Note(over(5, rotation.OutcomeRotated))) // the journal still has it
	assert.Equal(t, h.Totals(), want)
	assert.Equal(t, len(h.Past()), 8)
}

func TestHistory_CountsTwoRotationsOfOneSecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h := history(t, path)
	first, second := over(1, rotation.OutcomeRotated), over(1, rotation.OutcomeRolledBack)
	second.StartTime = first.StartTime.Add(time.Millisecond)
	assert.NilError(t, errors.Join(h.Note(first), h.Note(second)))
	h = history(t, path)
	assert.NilError(t, h.Note(first, second))
	assert.Equal(t, h.Totals(), rotation.Totals{Successful: 1, Failed: 1, Seconds: 2})
}

func TestHistory_ForgetsTheOldestAndNeverCountsThemAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	h := history(t, path)
	const many = 250
	for n := range many {
		assert.NilError(t, h.Note(over(n, rotation.OutcomeRotated)))
	}
	assert.Equal(t, len(h.Past()), 200)
	h = history(t, path)
	assert.NilError(t, h.Note(over(0, rotation.OutcomeRotated)))
	assert.Equal(t, h.Totals().Successful, many)
	assert.Equal(t, h.Past()[0].ID, "r50")
}

// The journal knows of the end of a rotation a moment before the history does.
func TestHistory_AndTheJournalMissNoRotation(t *testing.T) {
	dir := t.TempDir()
	j, err := rotation.OpenJournal(filepath.Join(dir, "rotations.json"), time.Now())
	assert.NilError(t, err)
	h := history(t, filepath.Join(dir, "history.json"))
	ended, noted := over(1, rotation.OutcomeRotated), over(2, rotation.OutcomeRotated)
	noted.OriginalContainerID = "d"
	assert.NilError(t, errors.Join(j.Save(ended), j.Save(noted), h.Note(noted)))
	all := h.And(j)
	assert.Equal(t, len(all), 2)
	assert.Equal(t, all[0].ID, "r1")
	assert.Equal(t, all[1].ID, "r2")
}

func TestHistory_RemembersWhichContainerItWasAndNoSpecification(t *testing.T) {
	h := history(t, filepath.Join(t.TempDir(), "history.json"))
	e := over(1, rotation.OutcomeRotated)
	e.Original.ID, e.Original.Name, e.Original.ImageID = "c", "web", "sha256:1"
	assert.NilError(t, h.Note(e))
	past := h.Past()[0]
	assert.Equal(t, past.Original.Name, "web")
	assert.Equal(t, past.Original.ImageID, "")
}
