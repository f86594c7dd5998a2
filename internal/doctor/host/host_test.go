package host

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/doctor"
)

// dirs is a host whose directories are the test's.
func dirs(t *testing.T) Host {
	t.Helper()
	h := Host{StateDir: t.TempDir(), RunDir: t.TempDir(), Agent: client.New("/no/such/socket"), Socket: "/no/such/socket", Engine: "unix:///no/such/engine"}.withDefaults()
	for _, d := range []string{"state", "locks"} {
		assert.NilError(t, os.Mkdir(filepath.Join(h.StateDir, d), 0o700))
	}
	t.Setenv("HOME", t.TempDir())
	return h
}

func (h Host) file(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(h.StateDir, name)
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	assert.NilError(t, os.Chmod(path, mode))
	return path
}

func TestGather_WithoutAnythingThereIsAReportAllTheSame(t *testing.T) {
	h := dirs(t)
	r := doctor.Run(h.Gather(t.Context()))
	assert.Equal(t, r.Overall, doctor.Fail)
	text, err := json.Marshal(r)
	assert.NilError(t, err)
	assert.Assert(t, json.Valid(text))
}

func TestState_FindsWhatCannotBeRead(t *testing.T) {
	h := dirs(t)
	h.file(t, "state/rotations.json", "{}", 0o600)
	h.file(t, "state/pins.json", `{"a":`, 0o600)
	h.file(t, "state/networks.json", "null", 0o600)
	h.file(t, "state/rotations.json.corrupt-20260504T030201Z", "x", 0o600)
	assert.NilError(t, os.Mkdir(filepath.Join(h.StateDir, "state/targets.json"), 0o700))
	byName := map[string]doctor.StateFile{}
	for _, s := range h.state() {
		byName[filepath.Base(s.Path)] = s
	}
	assert.Equal(t, byName["rotations.json"].Err, "")
	assert.Equal(t, len(byName["rotations.json"].Quarantined), 1)
	for _, bad := range []string{"pins.json", "networks.json", "targets.json"} {
		assert.Assert(t, byName[bad].Err != "", bad)
	}
}

func TestApply_RemovesALockThatNobodyHoldsAndNoOther(t *testing.T) {
	h := dirs(t)
	free, held := h.file(t, "locks/free.lock", "4194000", 0o600), h.file(t, "locks/held.lock", "", 0o600)
	l := flock.New(held)
	ok, err := l.TryLock()
	assert.Assert(t, ok && err == nil)
	defer func() { _ = l.Unlock() }()
	rows, unseen := h.locks()
	assert.Equal(t, unseen, "")
	assert.Equal(t, len(rows), 2)
	assert.Assert(t, !rows[0].Held && rows[1].Held)
	assert.NilError(t, h.Apply(t.Context(), doctor.Fix{Kind: doctor.FixLock, Target: free}))
	_, err = os.Stat(free)
	assert.Assert(t, os.IsNotExist(err))
	assert.ErrorIs(t, h.Apply(t.Context(), doctor.Fix{Kind: doctor.FixLock, Target: held}), ErrHeld)
	_, err = os.Stat(held)
	assert.NilError(t, err)
}

func TestApply_OnlyNarrowsModesAndOnlyOfWhatIsLookedAt(t *testing.T) {
	h := dirs(t)
	state := filepath.Join(h.StateDir, "state")
	assert.NilError(t, os.Chmod(state, 0o755))
	for range 2 {
		assert.NilError(t, h.Apply(t.Context(), doctor.Fix{Kind: doctor.FixMode, Target: state, Mode: 0o777 & 0o700}))
		info, err := os.Stat(state)
		assert.NilError(t, err)
		assert.Equal(t, info.Mode().Perm(), os.FileMode(0o700))
	}
	other := h.file(t, "other", "", 0o644)
	for _, kind := range []doctor.FixKind{doctor.FixMode, doctor.FixLock, doctor.FixQuarantine} {
		assert.ErrorContains(t, h.Apply(t.Context(), doctor.Fix{Kind: kind, Target: other}), "none of the files")
	}
	info, err := os.Stat(other)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o644))
	assert.ErrorContains(t, h.Apply(t.Context(), doctor.Fix{Kind: "nonsense"}), "no way")
}

func TestPaths_SeesModes(t *testing.T) {
	h := dirs(t)
	l, err := net.Listen("unix", filepath.Join(h.RunDir, "dso.sock"))
	assert.NilError(t, err)
	defer func() { _ = l.Close() }()
	assert.NilError(t, os.Chmod(filepath.Join(h.RunDir, "dso.sock"), 0o666))
	for _, p := range h.paths("") {
		if filepath.Base(p.Path) == "dso.sock" {
			assert.Equal(t, p.Mode.Perm(), os.FileMode(0o666))
			assert.Equal(t, p.Most, os.FileMode(0o660))
			return
		}
	}
	t.Fatal("the socket is not looked at")
}
