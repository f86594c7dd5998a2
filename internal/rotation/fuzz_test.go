package rotation_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// seedEntry is a whole entry, for the fuzzer to spoil.
func seedEntry(strategy rotation.Strategy) rotation.Entry {
	c := engine.Container{ID: strings.Repeat("a", 64), Name: "web", Spec: hosttest.Spec(hosttest.Env("DB=dso://app/db"), hosttest.Label(label.Strategy, string(strategy)))}
	e, _ := rotation.Plan(rotation.Observed{Container: c}, old, next, "fuzz", moment)
	e.Step, e.Status = rotation.StepAssign, rotation.StatusInProgress
	return e
}

// FuzzJournal: whatever the file holds, the agent starts; what it took from it can
// be written, read again, and carried on to an end that touches no container which
// the journal does not name.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"::":{}}`))
	f.Add([]byte(`null`))
	for _, s := range []rotation.Strategy{rotation.Rolling, rotation.Restart, rotation.None} {
		for _, edit := range []func(*rotation.Entry){
			func(*rotation.Entry) {},
			func(e *rotation.Entry) { e.Phase, e.Step = rotation.Back, rotation.StepPin },
			func(e *rotation.Entry) { e.Phase, e.Step, e.Recovered = rotation.Recreate, rotation.StepRecreate, true },
			func(e *rotation.Entry) {
				e.Phase, e.Step, e.HolderID = rotation.Yield, rotation.StepHandOver, strings.Repeat("b", 64)
			},
			func(e *rotation.Entry) { e.Step, e.StuckStep, e.Status = "", "gone", rotation.StatusCritical },
		} {
			e := seedEntry(s)
			edit(&e)
			data, err := json.Marshal(map[string]rotation.Entry{e.Key(): e})
			assert.NilError(f, err)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(hosttest.Dir(t), "rotations.json")
		assert.NilError(t, os.WriteFile(path, data, 0o600))
		j, err := rotation.OpenJournal(path, moment)
		var corrupt *durable.CorruptError
		if err != nil {
			assert.Assert(t, errors.As(err, &corrupt), "%v", err)
			kept, err := os.ReadFile(corrupt.Quarantine)
			assert.NilError(t, err)
			assert.Equal(t, string(kept), string(data), "the evidence is kept")
			assert.Equal(t, len(j.All()), 0)
		}
		mine := entryOf(t, "f", moment)
		assert.NilError(t, j.Save(mine))
		again, err := rotation.OpenJournal(path, moment)
		assert.NilError(t, err)
		assert.Equal(t, text(t, again.All()), text(t, j.All()))
		assert.Assert(t, again.Concerns(mine.OriginalContainerID))
		carryOn(t, data)
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	assert.NilError(t, err)
	return string(data)
}

// carryOn lets an agent find the data as its journal, on a host with a container
// that is nobody's business.
func carryOn(t *testing.T, data []byte) {
	synctest.Test(t, func(t *testing.T) {
		h := hosttest.New(t)
		h.Secrets.Set(db.Path, "value")
		bystander := h.Run(t, "bystander", hosttest.Env("DB=dso://app/db"))
		assert.NilError(t, os.WriteFile(h.JournalPath(), data, 0o600))
		h.Boot(t)
		for _, e := range h.Journal.All() {
			_, _ = e.Todo()
			if e.NeedsPerson() {
				assert.NilError(t, h.Machine.Again(&e))
			}
			if !e.Pending() || len(h.Journal.All()) > 3 || longWait(e.Timing) {
				continue
			}
			e.Recovered = true
			_ = h.Machine.Run(t.Context(), &e)
		}
		if !strings.Contains(string(data), "bystander") && !strings.Contains(string(data), bystander.ShortID()) {
			assert.Assert(t, h.Container(t, bystander.ID).Running())
			assert.Equal(t, h.Container(t, bystander.ID).Name, "bystander")
		}
	})
}

// longWait leaves out the entries whose waits would only take the fuzzer's time.
func longWait(timing rotation.Timing) bool {
	return timing.Health > time.Hour || timing.Monitor > time.Hour || timing.Drain > time.Hour
}

// FuzzRebuild: whatever a label says, what is rebuilt of it is about that container,
// and can be written and read again.
func FuzzRebuild(f *testing.F) {
	e := seedEntry(rotation.Rolling)
	e.Original = engine.Container{}
	e.Step = ""
	data, err := json.Marshal(e)
	assert.NilError(f, err)
	f.Add(string(data), e.ID, e.NewName)
	f.Add(string(data), e.ID, "web")
	f.Add(`{"id":"x","strategy":"rolling","phase":"sideways","new_name":"n"}`, "x", "n")
	f.Add(`{"id":"x","strategy":"rolling","phase":"forward","new_name":"n"}`, "x", "n")
	f.Add(`[]`, "", "")
	f.Fuzz(func(t *testing.T, entry, id, name string) {
		c := engine.Container{ID: strings.Repeat("b", 64), Name: name, Spec: hosttest.Spec(hosttest.Label(label.Entry, entry), hosttest.Label(label.Rotation, id))}
		original := engine.Container{ID: strings.Repeat("a", 64), Name: "web_dso_backup_1", Spec: hosttest.Spec()}
		for _, all := range [][]engine.Container{{c}, {c, original}, {original, c}} {
			entries := rotation.Rebuild(all)
			assert.Assert(t, len(entries) <= 1)
			j, err := rotation.OpenJournal(filepath.Join(hosttest.Dir(t), "rotations.json"), moment)
			assert.NilError(t, err)
			for _, e := range entries {
				assert.Equal(t, e.NewContainerID, c.ID)
				assert.Equal(t, e.ID, id)
				assert.Assert(t, e.Pending() && e.Phase == rotation.Forward && e.Strategy == rotation.Rolling)
				assert.Assert(t, slices.ContainsFunc(all, func(o engine.Container) bool { return o.ID == e.Original.ID }))
			}
			taken, err := j.Adopt(entries)
			assert.NilError(t, err)
			assert.Equal(t, len(taken), len(entries))
		}
	})
}
