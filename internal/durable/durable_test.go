package durable_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/durable"
)

var moment = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFile_ReplacesWholeWithTheModeAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for _, text := range []string{"first", "second"} {
		assert.NilError(t, durable.WriteFile(path, []byte(text), 0o640))
		data, err := os.ReadFile(path)
		assert.NilError(t, err)
		assert.Equal(t, string(data), text)
	}
	info, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o640))
	assert.DeepEqual(t, names(t, dir), []string{"state"})
}

func TestWriteFile_ThatFailsLeavesTheOldContentAndNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	assert.NilError(t, os.MkdirAll(filepath.Join(path, "in-the-way"), 0o700)) // a directory cannot be replaced
	assert.ErrorContains(t, durable.WriteFile(path, []byte("x"), 0o600), path)
	assert.DeepEqual(t, names(t, dir), []string{"state"})
}

func TestSweep_RemovesWhatAKilledWriterLeftAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"state", ".state.tmp-123", "sub/.map.json.tmp-9", "sub/map.json", ".hidden", "a.tmp-1"} {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		assert.NilError(t, os.WriteFile(path, nil, 0o600))
	}
	assert.NilError(t, durable.Sweep(dir))
	assert.DeepEqual(t, names(t, dir), []string{".hidden", "a.tmp-1", "state", "sub"})
	assert.DeepEqual(t, names(t, filepath.Join(dir, "sub")), []string{"map.json"})
	assert.NilError(t, durable.Sweep(filepath.Join(dir, "not-there")))
}

func TestLoadState_OfAFileThatCannotBeReadTakesTheGenerationBefore(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 2) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"rubbish":   func(path string) error { return os.WriteFile(path, []byte{0, 1, 2, 0xff}, 0o600) },
		"a directory": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"a pipe":             func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"a link to nowhere":  func(path string) error { return errors.Join(os.Remove(path), os.Symlink("state", path)) },
		"no file of its own": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "state")
			assert.NilError(t, durable.SaveState(path, []byte("good 1")))
			assert.NilError(t, durable.SaveState(path, []byte("good 2")))
			assert.NilError(t, damage(path))
			got := ""
			err := durable.LoadState(path, moment, func(data []byte) error {
				if len(data) != len("good 1") {
					return errors.New("not a state")
				}
				got = string(data)
				return nil
			})
			var corrupt *durable.CorruptError
			assert.Assert(t, errors.As(err, &corrupt), "%v", err)
			assert.ErrorContains(t, err, "failed to unmarshal state "+path)
			assert.Assert(t, corrupt.FromLast)
			assert.Equal(t, got, "good 1")
			_, err = os.Lstat(corrupt.Quarantine)
			assert.NilError(t, err, "the evidence is kept")
			assert.Equal(t, corrupt.Quarantine, path+".corrupt-20260504T030201Z")
		})
	}
}

// A write that fails, such as on a full disk, leaves both generations one file.
func TestSaveState_AfterOneThatFailedLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	assert.NilError(t, durable.SaveState(path, []byte("good 1")))
	assert.NilError(t, os.Link(path, path+".last"))
	assert.NilError(t, durable.SaveState(path, []byte("good 2")))
	assert.DeepEqual(t, names(t, dir), []string{"state", "state.last"})
}

func TestLoadState_OfAMissingFileTakesTheGenerationBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	assert.NilError(t, durable.SaveState(path, []byte("good 1")))
	assert.NilError(t, durable.SaveState(path, []byte("good 2")))
	assert.NilError(t, os.Remove(path))
	got := ""
	err := durable.LoadState(path, moment, func(data []byte) error { got = string(data); return nil })
	var corrupt *durable.CorruptError
	assert.Assert(t, errors.As(err, &corrupt) && corrupt.FromLast && corrupt.Quarantine == "", "%v", err)
	assert.ErrorContains(t, err, "is missing, and the generation before is there")
	assert.Equal(t, got, "good 1")
}

func TestLoadState_OfAMissingFileIsNothing(t *testing.T) {
	assert.NilError(t, durable.LoadState(filepath.Join(t.TempDir(), "state"), moment, func([]byte) error {
		t.Fatal("there is nothing to decode")
		return nil
	}))
}

// It is not damaged, so it is neither moved aside nor replaced by the generation before.
func TestLoadState_OfAFileOfANewerVersionLeavesItAsItIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	assert.NilError(t, durable.SaveState(path, []byte("good 1")))
	assert.NilError(t, durable.SaveState(path, []byte("newer")))
	before := names(t, dir)
	err := durable.LoadState(path, moment, func([]byte) error { return fmt.Errorf("format 9: %w", durable.ErrNewer) })
	assert.ErrorIs(t, err, durable.ErrNewer)
	var corrupt *durable.CorruptError
	assert.Assert(t, !errors.As(err, &corrupt))
	assert.ErrorContains(t, err, path)
	assert.DeepEqual(t, names(t, dir), before)
}
