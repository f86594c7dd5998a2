package address_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"gotest.tools/v3/assert"
)

func TestSwitch_CountsGenerationsUp(t *testing.T) {
	f := address.New(t.TempDir())
	for i, targets := range [][]string{{"a"}, {"b"}, {"a", "b"}, {}} {
		generation, err := f.Switch(key, targets)
		assert.NilError(t, err)
		assert.Equal(t, generation, uint64(i+1))
		got, err := f.Targets(key)
		assert.NilError(t, err)
		assert.DeepEqual(t, got, targets)
	}
}

func TestSwitch_ToWhatStandsWritesNothing(t *testing.T) {
	dir := t.TempDir()
	f := address.New(dir)
	_, err := f.Switch(key, []string{"a", "b"})
	assert.NilError(t, err)
	before, err := os.Stat(filepath.Join(dir, key, frontmap.File))
	assert.NilError(t, err)
	generation, err := f.Switch(key, []string{"b", "a", "b"})
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(1))
	after, err := os.Stat(filepath.Join(dir, key, frontmap.File))
	assert.NilError(t, err)
	assert.Assert(t, os.SameFile(before, after))
}

func TestSwitch_RefusesAddressesAndKeepsTheMap(t *testing.T) {
	f := address.New(t.TempDir())
	_, err := f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	_, err = f.Switch(key, []string{"172.18.0.2"})
	assert.ErrorIs(t, err, frontmap.ErrInvalid)
	got, err := f.Targets(key)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{"a"})
}

func TestSwitch_ReplacesAMapThatNobodyUnderstands(t *testing.T) {
	dir := t.TempDir()
	f := address.New(dir)
	_, err := f.Prepare(key)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, key, frontmap.File), []byte("?"), 0o600))
	got, err := f.Targets(key)
	assert.NilError(t, err)
	assert.Equal(t, len(got), 0)
	generation, err := f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	assert.Assert(t, generation > 1e9, "it is above all that a front may have counted to: %d", generation)
	next, err := f.Switch(key, []string{"a", "b"})
	assert.NilError(t, err)
	assert.Equal(t, next, generation+1)
	_, err = f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	got, err = f.Targets(key)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{"a"})
}

func TestFronts_RefuseKeysThatLeaveTheDirectory(t *testing.T) {
	f := address.New(t.TempDir())
	for _, bad := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a b", "ä"} {
		_, err := f.Switch(bad, nil)
		assert.ErrorIs(t, err, address.ErrKey, "%q", bad)
		assert.ErrorIs(t, f.Remove(bad), address.ErrKey, "%q", bad)
	}
}

func TestRemove_ForgetsTheFrontAndCanBeRepeated(t *testing.T) {
	f := address.New(filepath.Join(t.TempDir(), "fronts"))
	assert.NilError(t, f.Remove(key))
	_, err := f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	keys, err := f.Keys()
	assert.NilError(t, err)
	assert.DeepEqual(t, keys, []string{key})
	assert.NilError(t, f.Remove(key))
	assert.NilError(t, f.Remove(key))
	got, err := f.Targets(key)
	assert.NilError(t, err)
	assert.Equal(t, len(got), 0)
}

func TestSwitch_ToWhatWasAnnouncedIsOneRename(t *testing.T) {
	dir := t.TempDir()
	f := address.New(dir)
	_, err := f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	assert.NilError(t, f.Announce(key, []string{"b"}))
	got, err := f.Targets(key)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{"a"})
	announced, err := os.Stat(filepath.Join(dir, key, frontmap.NextFile))
	assert.NilError(t, err)

	generation, err := f.Switch(key, []string{"b"})
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(2))
	inForce, err := os.Stat(filepath.Join(dir, key, frontmap.File))
	assert.NilError(t, err)
	assert.Assert(t, os.SameFile(announced, inForce))
	got, err = f.Targets(key)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{"b"})
}

// Two replicas rotate at once, or the rotation goes back.
func TestSwitch_ToSomethingElseForgetsWhatWasAnnounced(t *testing.T) {
	for name, to := range map[string][]string{"others": {"a", "c"}, "what stands": {"a"}} {
		dir := t.TempDir()
		f := address.New(dir)
		_, err := f.Switch(key, []string{"a"})
		assert.NilError(t, err)
		assert.NilError(t, f.Announce(key, []string{"b"}))
		_, err = f.Switch(key, to)
		assert.NilError(t, err)
		got, err := f.Targets(key)
		assert.NilError(t, err)
		assert.DeepEqual(t, got, to)
		_, err = os.Stat(filepath.Join(dir, key, frontmap.NextFile))
		assert.ErrorIs(t, err, os.ErrNotExist, name)
	}
}

// An agent was killed between the map and the end of what was announced.
func TestSwitch_NeverTakesWhatWasAnnouncedForAnotherMap(t *testing.T) {
	dir := t.TempDir()
	f := address.New(dir)
	_, err := f.Switch(key, []string{"a"})
	assert.NilError(t, err)
	_, err = f.Switch(key, []string{"c"})
	assert.NilError(t, err)
	old := frontmap.Map{Format: frontmap.Format, Generation: 2, Targets: []string{"b"}}
	assert.NilError(t, frontmap.Announce(filepath.Join(dir, key), old))
	generation, err := f.Switch(key, []string{"b"})
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(3))
}
