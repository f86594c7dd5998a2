package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/file"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
)

var fp = provider.NewFingerprint([]byte("key"))

func TestProvider_KeepsTheContract(t *testing.T) {
	open := func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		return file.New("files", dir, fp), providertest.Files(t, dir, fp.Version)
	}
	providertest.RunWith(t, open, providertest.Options{NoHistory: true})
	providertest.RunWatch(t, open, providertest.Options{})
}

func TestProvider_ReadsNothingOutsideItsDirectory(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	providertest.Files(t, outside, fp.Version)("x", []byte("canary"))
	assert.NilError(t, os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, "link")))
	assert.NilError(t, os.Symlink(outside, filepath.Join(dir, "dir")))
	providertest.Files(t, dir, fp.Version)("real", []byte("v"))
	assert.NilError(t, os.Symlink("real", filepath.Join(dir, "inside")))
	p := file.New("files", dir, fp)
	for _, path := range []string{"link", "dir/x"} {
		_, _, err := p.Get(t.Context(), path, "")
		assert.ErrorIs(t, err, provider.ErrPermanent, path)
		assert.ErrorContains(t, err, "provider files: "+path)
	}
	value, _, err := p.Get(t.Context(), "inside", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal()), "v")
}

func TestProvider_WhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	p := file.New("files", dir, fp)
	assert.NilError(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	assert.NilError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, path := range []string{"d", "pipe"} {
		_, err := p.Version(t.Context(), path)
		assert.ErrorContains(t, err, "not a regular file")
	}
	providertest.Files(t, dir, fp.Version)("open", []byte("v"))
	assert.NilError(t, os.Chmod(filepath.Join(dir, "open"), 0o666))
	_, err := p.Version(t.Context(), "open")
	assert.ErrorContains(t, err, "chmod o-w "+filepath.Join(dir, "open"))

	big := filepath.Join(dir, "big")
	assert.NilError(t, os.WriteFile(big, nil, 0o600))
	assert.NilError(t, os.Truncate(big, provider.MaxValue+1))
	_, err = p.Version(t.Context(), "big")
	assert.ErrorIs(t, err, provider.ErrTooLarge)

	_, err = file.New("files", filepath.Join(dir, "none"), fp).Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.Assert(t, !provider.Retryable(err))
}

func TestProvider_WatchSeesFilesAndNewDirectories(t *testing.T) {
	dir := t.TempDir()
	p := file.New("files", dir, fp)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := p.Watch(ctx)
	assert.NilError(t, err)
	providertest.Files(t, dir, fp.Version)("x", []byte("1"))
	<-changed
	providertest.Files(t, dir, fp.Version)("a/b/x", []byte("1"))
	<-changed
	cancel()
	for range changed { // ends
	}
	_, err = file.New("files", filepath.Join(dir, "none"), fp).Watch(t.Context())
	assert.Assert(t, err != nil)
}

// How configuration management and Kubernetes put other files in the place of those that
// are there: each must be noticed, with the value to be read.
func TestProvider_WatchSeesHoweverFilesAreReplaced(t *testing.T) {
	write := func(path, value string) {
		assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		assert.NilError(t, os.WriteFile(path, []byte(value), 0o600))
	}
	link := func(to, path string) {
		assert.NilError(t, os.Symlink(to, path+".new"))
		assert.NilError(t, os.Rename(path+".new", path))
	}
	for name, c := range map[string]struct{ before, change func(dir string) }{
		"written in place": {
			func(dir string) { write(dir+"/x", "one") },
			func(dir string) { write(dir+"/x", "two") },
		},
		"renamed": {
			func(dir string) { write(dir+"/x", "one"); write(dir+"/new", "two") },
			func(dir string) { assert.NilError(t, os.Rename(dir+"/new", dir+"/x")) },
		},
		"a link to the data": {
			func(dir string) {
				write(dir+"/..1/x", "one")
				link("..1", dir+"/..data")
				link("..data/x", dir+"/x")
				write(dir+"/..2/x", "two")
			},
			func(dir string) { link("..2", dir+"/..data") },
		},
		"the directory itself is a link": {
			func(dir string) {
				assert.NilError(t, os.Remove(dir))
				write(dir+"-1/x", "one")
				link(dir+"-1", dir)
				write(dir+"-2/x", "two")
			},
			func(dir string) { link(dir+"-2", dir) },
		},
		"in a directory that is a link": {
			func(dir string) { assert.NilError(t, os.Remove(dir)); write(dir+"-1/x", "one"); link(dir+"-1", dir) },
			func(dir string) { write(dir+"-1/x", "two") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secrets")
			assert.NilError(t, os.Mkdir(dir, 0o700))
			c.before(dir)
			p := file.New("files", dir, fp)
			changed, err := p.Watch(t.Context())
			assert.NilError(t, err)
			c.change(dir)
			<-changed // closed counts as told: the caller watches anew, and compares
			value, _, err := p.Get(t.Context(), "x", "")
			assert.NilError(t, err)
			assert.Equal(t, string(value.Reveal()), "two")
		})
	}
}

func TestGet_HalfAFileIsNotDelivered(t *testing.T) {
	dir := t.TempDir()
	p := file.New("files", dir, fp)
	f, err := os.OpenFile(filepath.Join(dir, "x"), os.O_CREATE|os.O_WRONLY, 0o600)
	assert.NilError(t, err)
	_, err = f.WriteString("half")
	assert.NilError(t, err)
	_, _, err = p.Get(t.Context(), "x", "")
	assert.ErrorContains(t, err, "provider files: x: somebody has the file open for writing")
	assert.Assert(t, provider.Retryable(err))

	// Who has been still for long only has it open.
	long := time.Now().Add(-time.Hour)
	assert.NilError(t, os.Chtimes(f.Name(), long, long))
	value, _, err := p.Get(t.Context(), "x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal()), "half")

	_, err = f.WriteString(" and ")
	assert.NilError(t, err)
	read := make(chan string)
	go func() {
		value, _, err := p.Get(t.Context(), "x", "")
		assert.Check(t, err)
		read <- string(value.Reveal())
	}()
	_, err = f.WriteString("whole")
	assert.NilError(t, err)
	assert.NilError(t, f.Close())
	assert.Equal(t, <-read, "half and whole")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = p.Get(ctx, "x", "")
	assert.ErrorIs(t, err, context.Canceled)
}
