package frontmap_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"gotest.tools/v3/assert"
)

func TestStore_WhatWasStoredIsLoaded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	want := frontmap.Map{Format: frontmap.Format, Generation: 7, Targets: []string{"4f1c2ab09d3e", "shop-web-1"}}
	assert.NilError(t, frontmap.Store(dir, want))
	got, err := frontmap.Load(dir)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, want)
}

func TestStore_IsReadableByAFrontInAnotherUserNamespace(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "web")
	assert.NilError(t, frontmap.Store(dir, frontmap.Map{Format: frontmap.Format, Generation: 1}))
	for path, want := range map[string]fs.FileMode{dir: 0o755, filepath.Join(dir, frontmap.File): 0o644} {
		st, err := os.Stat(path)
		assert.NilError(t, err)
		assert.Equal(t, st.Mode().Perm(), want, path)
	}
}

func TestStore_LeavesTheOldMapWhenTheNewOneIsInvalid(t *testing.T) {
	dir := t.TempDir()
	good := frontmap.Map{Format: frontmap.Format, Generation: 1, Targets: []string{"a"}}
	assert.NilError(t, frontmap.Store(dir, good))
	err := frontmap.Store(dir, frontmap.Map{Format: frontmap.Format, Generation: 2, Targets: []string{"10.0.0.1"}})
	assert.ErrorIs(t, err, frontmap.ErrInvalid)
	got, err := frontmap.Load(dir)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, good)
}

func TestLoad_TellsNoMapFromABadOne(t *testing.T) {
	dir := t.TempDir()
	_, err := frontmap.Load(dir)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, frontmap.File), []byte("{"), 0o600))
	_, err = frontmap.Load(dir)
	assert.ErrorIs(t, err, frontmap.ErrInvalid)
}

func TestParse_RefusesWhatItDoesNotUnderstandWhole(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            ``,
		"a newer format":     `{"format":2,"generation":1,"targets":["a"]}`,
		"no format":          `{"generation":1,"targets":["a"]}`,
		"no generation":      `{"format":1,"targets":["a"]}`,
		"no targets":         `{"format":1,"generation":1}`,
		"null for targets":   `{"format":1,"generation":1,"targets":null}`,
		"an unknown field":   `{"format":1,"generation":1,"targets":["a"],"weights":[1]}`,
		"something after it": `{"format":1,"generation":1,"targets":["a"]} {}`,
		"an IPv4 address":    `{"format":1,"generation":1,"targets":["172.17.0.2"]}`,
		"an IPv6 address":    `{"format":1,"generation":1,"targets":["fd00::2"]}`,
		"an empty target":    `{"format":1,"generation":1,"targets":[""]}`,
		"a space in a name":  `{"format":1,"generation":1,"targets":["a b"]}`,
		"a leading dot":      `{"format":1,"generation":1,"targets":[".a"]}`,
		"a very long name":   `{"format":1,"generation":1,"targets":["` + strings.Repeat("a", 254) + `"]}`,
		"too many targets":   `{"format":1,"generation":1,"targets":["a"` + strings.Repeat(`,"a"`, 256) + `]}`,
	} {
		_, err := frontmap.Parse([]byte(text))
		assert.Check(t, errors.Is(err, frontmap.ErrInvalid), "%s: %v", name, err)
	}
}

func TestParse_AcceptsAnEmptyListAsAnOrder(t *testing.T) {
	m, err := frontmap.Parse([]byte(`{"format":1,"generation":9,"targets":[]}`))
	assert.NilError(t, err)
	assert.Equal(t, m.Generation, uint64(9))
	assert.Equal(t, len(m.Targets), 0)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"generation":7,"targets":["4f1c2ab09d3e","web-1"]}`))
	f.Add([]byte(`{"format":1,"generation":7,"targets":["::1"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := frontmap.Parse(data)
		if err != nil {
			assert.ErrorIs(t, err, frontmap.ErrInvalid)
			return
		}
		dir := t.TempDir()
		assert.NilError(t, frontmap.Store(dir, m), "what was parsed cannot be stored")
		again, err := frontmap.Load(dir)
		assert.NilError(t, err)
		assert.Equal(t, again.Generation, m.Generation)
		assert.Equal(t, len(again.Targets), len(m.Targets))
	})
}
