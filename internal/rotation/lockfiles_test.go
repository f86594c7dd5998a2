package rotation_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func TestLocks_FilesTellWhoHoldsWhat(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := holder(t, dir)
	l := rotation.NewLocks(dir)
	release, err := l.Acquire(t.Context(), []secret.ID{{Provider: "aws", Path: "prod/key"}})
	assert.NilError(t, err)
	defer release()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "old~one.lock"), []byte("4194304\n"), 0o600))

	files, err := l.Files()
	assert.NilError(t, err)
	assert.Equal(t, len(files), 3)
	theirs, ours, dead := files[0], files[1], files[2]
	assert.Equal(t, theirs.Secret, "local:app/db")
	assert.Equal(t, theirs.PID, cmd.Process.Pid)
	assert.Assert(t, theirs.Held && theirs.Alive && theirs.SameBoot)
	assert.Equal(t, ours.PID, os.Getpid())
	assert.Assert(t, ours.Held && ours.Alive && ours.SameBoot)
	assert.Equal(t, dead.Secret, "old/one")
	assert.Assert(t, !dead.Held && !dead.Alive && !dead.SameBoot)
}

func TestLocks_SweepRemovesWhatNobodyHolds(t *testing.T) {
	dir := t.TempDir()
	holder(t, dir)
	at := func(name string) string { return filepath.Join(dir, name+".lock") }
	for name, content := range map[string]string{
		"empty": "", "rubbish": "\x00\xff{{", "another version": `{"pid":"one","holder":{}}`, "dead": "4194304", "us": `{"pid":1}`,
	} {
		assert.NilError(t, os.WriteFile(at(name), []byte(content), 0o600))
	}
	outside := filepath.Join(t.TempDir(), "precious")
	assert.NilError(t, os.WriteFile(outside, []byte("x"), 0o600))
	assert.NilError(t, os.Symlink(outside, at("link")))
	assert.NilError(t, unix.Mkfifo(at("pipe"), 0o600))
	assert.NilError(t, os.Mkdir(at("directory"), 0o700))
	assert.NilError(t, os.MkdirAll(filepath.Join(at("full"), "x"), 0o700))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))

	swept, err := rotation.NewLocks(dir).Sweep(moment)
	assert.NilError(t, err)
	assert.Equal(t, len(swept), 9)
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	slices.Sort(left)
	assert.DeepEqual(t, left, []string{"app~db.lock", "full.lock.swept-1777863721", "notes.txt"})
	_, err = os.Stat(outside)
	assert.NilError(t, err)

	var names []secret.ID
	for _, name := range []string{"empty", "link", "pipe", "directory", "full"} {
		names = append(names, secret.ID{Provider: "local", Path: name})
	}
	release, err := rotation.NewLocks(dir).Acquire(t.Context(), names)
	assert.NilError(t, err)
	release()
}

func TestLocks_LookingDoesNotHinderTheHolder(t *testing.T) {
	l := rotation.NewLocks(t.TempDir())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			_, _ = l.Files()
		}
	}()
	for range 200 {
		release, err := l.Acquire(t.Context(), []secret.ID{db})
		assert.NilError(t, err)
		release()
	}
	<-done
}

// FuzzLocks_Sweep: whatever lies under a lock's name, it is swept and the lock can
// be had.
func FuzzLocks_Sweep(f *testing.F) {
	f.Add([]byte("123"))
	f.Add([]byte{0, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "app~db.lock"), data, 0o600))
		l := rotation.NewLocks(dir)
		files, err := l.Files()
		assert.NilError(t, err)
		assert.Equal(t, len(files), 1)
		swept, err := l.Sweep(time.Now())
		assert.NilError(t, err)
		assert.Equal(t, len(swept), 1)
		release, err := l.Acquire(t.Context(), []secret.ID{db})
		assert.NilError(t, err)
		release()
	})
}
