package rotation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var moment = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func entryOf(t *testing.T, id string, at time.Time) rotation.Entry {
	t.Helper()
	c := engine.Container{ID: strings.Repeat(id, 64/len(id)), Name: "web", Spec: hosttest.Spec(hosttest.Env("DB=dso://app/db"))}
	e, err := rotation.Plan(rotation.Observed{Container: c, Ports: []uint16{80}}, old, next, "the secret changed", at)
	assert.NilError(t, err)
	e.Step, e.Status = rotation.StepAssign, rotation.StatusInProgress
	return e
}

func TestJournal_GivesBackWhatWasSaved(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	j, err := rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	first, second := entryOf(t, "a", moment), entryOf(t, "b", moment.Add(time.Second))
	assert.NilError(t, j.Save(second))
	assert.NilError(t, j.Save(first))

	j, err = rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	assert.DeepEqual(t, j.All(), []rotation.Entry{first, second}, cmpAddr)
	assert.Assert(t, j.Concerns(first.OriginalContainerID))
	assert.Assert(t, !j.Concerns("c"))
}

// An older version must not take what it does not understand for damage, and begin anew.
func TestJournal_OfANewerVersionIsRefusedAndLeftAsItIs(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	j, err := rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	assert.NilError(t, j.Save(entryOf(t, "a", moment)))
	data, err := os.ReadFile(path)
	assert.NilError(t, err)
	newer := strings.Replace(string(data), `"format": 1`, `"format": 2`, 1)
	assert.Assert(t, newer != string(data))
	assert.NilError(t, os.WriteFile(path, []byte(newer), 0o600))
	_, err = rotation.OpenJournal(path, moment)
	assert.ErrorIs(t, err, durable.ErrNewer)
	var corrupt *durable.CorruptError
	assert.Assert(t, !errors.As(err, &corrupt))
	data, err = os.ReadFile(path)
	assert.NilError(t, err)
	assert.Equal(t, string(data), newer)
}

func TestJournal_IsReadableAsTheContractSays(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	j, err := rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	e := entryOf(t, "a", moment)
	e.NewContainerID = "new"
	assert.NilError(t, j.Save(e))

	data, err := os.ReadFile(path)
	assert.NilError(t, err)
	var raw map[string]map[string]any
	assert.NilError(t, json.Unmarshal(data, &raw))
	got := raw["local:app/db:"+e.OriginalContainerID]
	want := map[string]any{
		"provider_name": "local", "secret_name": "app/db", "original_container_id": e.OriginalContainerID,
		"new_container_id": "new", "status": "in_progress", "error_message": "",
		"start_time": "2026-05-04T03:02:01Z", "last_update": "2026-05-04T03:02:01Z",
	}
	for field, value := range want {
		assert.DeepEqual(t, got[field], value)
	}
}

func TestJournal_IsForRootAloneAndLeavesNoTemporaryFile(t *testing.T) {
	dir := hosttest.Dir(t)
	j, err := rotation.OpenJournal(filepath.Join(dir, "rotations.json"), moment)
	assert.NilError(t, err)
	for range 3 {
		assert.NilError(t, j.Save(entryOf(t, "a", moment)))
	}
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 2, "the journal and the generation before")
	for _, e := range entries {
		info, err := e.Info()
		assert.NilError(t, err)
		assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
	}
}

func TestJournal_ThatCannotBeReadIsSetAsideAndBegunAnew(t *testing.T) {
	whole, err := json.Marshal(map[string]rotation.Entry{"k": {}})
	assert.NilError(t, err)
	unknownStep := entryOf(t, "a", moment)
	unknownStep.Step = "teleport"
	unknown, err := json.Marshal(map[string]rotation.Entry{unknownStep.Key(): unknownStep})
	assert.NilError(t, err)
	for name, content := range map[string]string{
		"empty":                "",
		"cut off":              `{"local:app/db:a": {"id": "x"`,
		"null":                 "null",
		"a list":               "[]",
		"noise":                "\x00\x01\x02",
		"key of another entry": string(whole),
		"unknown step":         string(unknown),
	} {
		t.Run(name, func(t *testing.T) {
			dir := hosttest.Dir(t)
			path := filepath.Join(dir, "rotations.json")
			assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
			j, err := rotation.OpenJournal(path, moment)
			var corrupt *durable.CorruptError
			assert.Assert(t, errors.As(err, &corrupt), "%v", err)
			assert.ErrorContains(t, err, "failed to unmarshal state")
			assert.Equal(t, corrupt.Quarantine, path+".corrupt-20260504T030201Z")
			kept, err := os.ReadFile(corrupt.Quarantine)
			assert.NilError(t, err)
			assert.Equal(t, string(kept), content)

			assert.NilError(t, j.Save(entryOf(t, "a", moment)))
			j, err = rotation.OpenJournal(path, moment)
			assert.NilError(t, err)
			assert.Equal(t, len(j.Pending()), 1)
		})
	}
}

func TestJournal_ThatCannotBeReadGivesTheGenerationBefore(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	j, err := rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	assert.NilError(t, j.Save(entryOf(t, "a", moment)))
	assert.NilError(t, j.Save(entryOf(t, "b", moment)))
	assert.NilError(t, os.WriteFile(path, []byte("{\"half\":"), 0o600))
	j, err = rotation.OpenJournal(path, moment)
	var corrupt *durable.CorruptError
	assert.Assert(t, errors.As(err, &corrupt))
	assert.Assert(t, corrupt.FromLast)
	assert.Equal(t, len(j.All()), 1, "all but the last save")
}

func TestJournal_RotationThatIsOverIsSoInTheGenerationBefore(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	j, err := rotation.OpenJournal(path, moment)
	assert.NilError(t, err)
	e := entryOf(t, "a", moment)
	assert.NilError(t, j.Save(e))
	e.Step, e.Status, e.Outcome = "", rotation.StatusRecovered, rotation.OutcomeGone
	assert.NilError(t, j.Save(e))
	assert.NilError(t, os.WriteFile(path, []byte("{\"half\":"), 0o600))
	j, err = rotation.OpenJournal(path, moment)
	var corrupt *durable.CorruptError
	assert.Assert(t, errors.As(err, &corrupt))
	assert.Equal(t, len(j.Pending()), 0)
	assert.Equal(t, j.All()[0].Outcome, rotation.OutcomeGone)
}

func TestJournal_SecondQuarantineOfOneSecondKeepsTheFirst(t *testing.T) {
	path := filepath.Join(hosttest.Dir(t), "rotations.json")
	for _, content := range []string{"first", "second"} {
		assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := rotation.OpenJournal(path, moment)
		var corrupt *durable.CorruptError
		assert.Assert(t, errors.As(err, &corrupt))
	}
	aside, err := filepath.Glob(path + ".corrupt-*")
	assert.NilError(t, err)
	assert.Equal(t, len(aside), 2)
}

func TestJournal_ForgetsTheOldestThatAreOverAndNothingElse(t *testing.T) {
	j, err := rotation.OpenJournal(filepath.Join(hosttest.Dir(t), "rotations.json"), moment)
	assert.NilError(t, err)
	pending, critical := entryOf(t, "aa", moment.Add(-2*time.Hour)), entryOf(t, "bb", moment.Add(-time.Hour))
	critical.Step, critical.Status = "", rotation.StatusCritical
	assert.NilError(t, j.Save(pending))
	assert.NilError(t, j.Save(critical))
	for i := range 60 {
		e := entryOf(t, fmt.Sprintf("%02x", 0xc0+i%0x40), moment.Add(time.Duration(i)*time.Second))
		e.Step, e.Status = "", rotation.StatusCompleted
		assert.NilError(t, j.Save(e))
	}
	all := j.All()
	assert.Equal(t, len(all), 52)
	assert.DeepEqual(t, all[0], pending, cmpAddr)
	assert.DeepEqual(t, all[1], critical, cmpAddr)
	assert.DeepEqual(t, all[2].StartTime, moment.Add(10*time.Second))
}

func TestJournal_SaveThatFailsChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	j, err := rotation.OpenJournal(filepath.Join(dir, "rotations.json"), moment)
	assert.NilError(t, err)
	assert.Assert(t, j.Save(entryOf(t, "a", moment)) != nil)
	assert.Equal(t, len(j.All()), 0)
}

func TestJournal_EntryThatCannotBeCarriedOnIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*rotation.Entry){
		"unknown strategy":        func(e *rotation.Entry) { e.Strategy = "teleport" },
		"unknown phase":           func(e *rotation.Entry) { e.Phase = "sideways" },
		"no specification":        func(e *rotation.Entry) { e.Original = engine.Container{} },
		"no name":                 func(e *rotation.Entry) { e.ContainerName = "" },
		"no intermediate name":    func(e *rotation.Entry) { e.Strategy = rotation.Rolling },
		"adopts nothing":          func(e *rotation.Entry) { e.Phase, e.Step = rotation.Adopt, rotation.StepStart },
		"a phase of another":      func(e *rotation.Entry) { e.Strategy, e.Phase = rotation.None, rotation.Yield },
		"stuck, unknown strategy": func(e *rotation.Entry) { e.Step, e.Status, e.Strategy = "", rotation.StatusCritical, "teleport" },
		"stuck, nothing to make it": func(e *rotation.Entry) {
			e.Step, e.Status, e.Original.Spec.HostConfig = "", rotation.StatusCritical, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := entryOf(t, "a", moment)
			spoil(&e)
			data, err := json.Marshal(map[string]rotation.Entry{e.Key(): e})
			assert.NilError(t, err)
			path := filepath.Join(hosttest.Dir(t), "rotations.json")
			assert.NilError(t, os.WriteFile(path, data, 0o600))
			_, err = rotation.OpenJournal(path, moment)
			assert.ErrorContains(t, err, "failed to unmarshal state")
		})
	}
}

func TestPlan_NamesTheSecretThatChanges(t *testing.T) {
	a, b := secret.ID{Provider: "local", Path: "app/a"}, secret.ID{Provider: "local", Path: "app/b"}
	c := engine.Container{ID: strings.Repeat("a", 64), Name: "web", Spec: hosttest.Spec()}
	for name, tc := range map[string]struct {
		from, to secret.Versions
		want     string
	}{
		"the one that differs": {secret.Versions{a: "1", b: "1"}, secret.Versions{a: "1", b: "2"}, "app/b"},
		"the first of several": {secret.Versions{a: "1", b: "1"}, secret.Versions{a: "2", b: "2"}, "app/a"},
		"the first of none":    {secret.Versions{a: "1", b: "1"}, secret.Versions{a: "1", b: "1"}, "app/a"},
		"nothing known before": {nil, secret.Versions{a: "1", b: "1"}, "app/a"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := rotation.Plan(rotation.Observed{Container: c}, tc.from, tc.to, "x", moment)
			assert.NilError(t, err)
			assert.Equal(t, e.SecretName, tc.want)
			assert.Equal(t, e.NewName, "web_dso_new_1777863721")
			assert.Equal(t, e.BackupName, "web_dso_backup_1777863721")
		})
	}
}
