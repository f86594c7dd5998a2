package deliver_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func file(path, value string) deliver.File {
	return deliver.File{Path: path, Value: secret.NewValue([]byte(value)), UID: os.Getuid(), GID: os.Getgid(), Mode: 0o400}
}

// shown returns the files that a container sees, by path.
func shown(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		top, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		assert.NilError(t, err)
		assert.NilError(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			out[e.Name()+strings.TrimPrefix(path, top)] = string(data)
			return err
		}))
	}
	return out
}

func TestWriteFiles_ShowsExactlyTheFiles(t *testing.T) {
	dir := filepath.Join(hosttest.Dir(t), "c1")
	for _, files := range [][]deliver.File{
		{file("db", "one"), file("app/tls/key", "k"), file("app/tls/cert", "c")},
		{file("db", "two"), file("app/tls/key", "k2")},
		{file("app/other", "x")},
		{file("db/nested", "a directory now"), file("app", "a file now")},
	} {
		assert.NilError(t, deliver.WriteFiles(dir, files, time.Now()))
		want := map[string]string{}
		for _, f := range files {
			want[f.Path] = string(f.Value.Reveal())
		}
		assert.DeepEqual(t, shown(t, dir), want)
	}
}

func TestWriteFiles_KeepsOneGeneration(t *testing.T) {
	dir := filepath.Join(hosttest.Dir(t), "c1")
	assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{file("db", "one")}, time.Now()))
	// What writers that were killed left.
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "..2020_01_01_00_00_00.1", "db"), 0o755))
	assert.NilError(t, os.Symlink("nowhere", filepath.Join(dir, "..tmp-..data")))
	assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{file("db", "two")}, time.Now()))
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 3, "..data, its directory and the name: %v", entries)
}

func TestWriteFiles_TwiceInOneInstantIsTwoGenerations(t *testing.T) {
	dir := filepath.Join(hosttest.Dir(t), "c1")
	now := time.Now()
	for _, value := range []string{"one", "two", "three"} {
		assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{file("db", value)}, now))
		assert.DeepEqual(t, shown(t, dir), map[string]string{"db": value})
	}
}

func TestWriteFiles_ThatFailsLeavesTheOldOnes(t *testing.T) {
	dir := filepath.Join(hosttest.Dir(t), "c1")
	assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{file("db", "one")}, time.Now()))
	err := deliver.WriteFiles(dir, []deliver.File{file("db", "two"), file("db/below", "x")}, time.Now())
	assert.Assert(t, err != nil)
	assert.DeepEqual(t, shown(t, dir), map[string]string{"db": "one"})
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 3)
}

func TestWriteFiles_SetsOwnerAndModeWhateverTheUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(hosttest.Dir(t), "c1")
	f := file("app/key", "k")
	f.Mode = 0o444
	if os.Getuid() == 0 {
		f.UID, f.GID = 1234, 2345
	}
	assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{f}, time.Now()))
	info, err := os.Stat(filepath.Join(dir, "app/key"))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), fs.FileMode(0o444))
	st := info.Sys().(*syscall.Stat_t)
	assert.Equal(t, int(st.Uid), f.UID)
	assert.Equal(t, int(st.Gid), f.GID)
	for _, d := range []string{".", "app", "..data"} {
		info, err := os.Stat(filepath.Join(dir, d))
		assert.NilError(t, err)
		assert.Equal(t, info.Mode().Perm(), fs.FileMode(0o755), d)
	}
}

func TestWriteFiles_ReaderNeverSeesAMixture(t *testing.T) {
	dir := filepath.Join(hosttest.Dir(t), "c1")
	write := func(n int) {
		assert.NilError(t, deliver.WriteFiles(dir, []deliver.File{file("user", fmt.Sprint(n)), file("app/password", fmt.Sprint(n))}, time.Now()))
	}
	write(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; n <= 300; n++ {
			write(n)
		}
	}()
	reads := 0
	for {
		select {
		case <-done:
			assert.Assert(t, reads > 10, "%d reads", reads)
			return
		default:
		}
		// A reader that opens one generation reads all of it, or finds that it is
		// gone meanwhile, as with Kubernetes.
		gen, err := os.Open(filepath.Join(dir, "..data"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		assert.NilError(t, err)
		root := fmt.Sprintf("/proc/self/fd/%d/", gen.Fd())
		user, errUser := os.ReadFile(root + "user")
		password, errPassword := os.ReadFile(root + "app/password")
		assert.NilError(t, gen.Close())
		if errUser == nil && errPassword == nil {
			assert.Equal(t, string(user), string(password))
			reads++
		}
		// One that goes by the names finds each of them, always whole.
		for _, name := range []string{"user", "app/password"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				assert.Assert(t, len(data) > 0)
			}
		}
	}
}
