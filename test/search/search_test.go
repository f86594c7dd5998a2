package search_test

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/search"
)

// The search is worth what it finds.
func TestSearch_FindsEveryForm(t *testing.T) {
	value := search.Canary()
	for _, n := range search.Needles(value) {
		t.Run(n.Form, func(t *testing.T) {
			dir := t.TempDir()
			assert.NilError(t, os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("x", 5000)+string(n.Text)+"x"), 0o600))
			assert.Equal(t, len(search.Below(dir, time.Time{}, search.Needles(value))), 1)
			assert.Equal(t, len(search.Below(dir, time.Time{}, search.Needles(search.Canary()))), 0)
		})
	}
	t.Run("encoded by others", func(t *testing.T) {
		for shift := range 3 {
			cmd := exec.CommandContext(t.Context(), "base64", "-w0")
			cmd.Stdin = io.MultiReader(strings.NewReader(strings.Repeat("y", shift)), strings.NewReader(value+"tail"))
			out, err := cmd.Output()
			assert.NilError(t, err)
			assert.Check(t, search.Find(out, search.Needles(value)) != "", "base64 at %d", shift)
		}
	})
	t.Run("names and links", func(t *testing.T) {
		dir, name := t.TempDir(), rand.Text()
		assert.NilError(t, os.Symlink("/"+name, filepath.Join(dir, "link")))
		assert.NilError(t, os.Mkdir(filepath.Join(dir, "a"+name), 0o700))
		assert.Equal(t, len(search.Below(dir, time.Time{}, search.Needles(name))), 2)
	})
}
