package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/file"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
)

var fp = provider.NewFingerprint([]byte("key"))

func TestProvider_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		return file.New("files", dir, fp), providertest.Files(t, dir, fp.Version)
	}, providertest.Options{NoHistory: true})
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
