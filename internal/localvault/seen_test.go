package localvault_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// What is remembered about a file must never outlive it, whoever changes it.
func TestVersion_FollowsEveryChangeByAnotherProcess(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "vault")
	ours, _, err := localvault.Init(dir)
	assert.NilError(t, err)
	theirs, err := localvault.Open(dir)
	assert.NilError(t, err)
	for i := range 20 {
		want, _, err := theirs.Set(ctx, "app/x", secret.NewValue(fmt.Append(nil, i%3)), localvault.SetOptions{})
		assert.NilError(t, err)
		for range 2 {
			got, err := ours.Version(ctx, "app/x")
			assert.NilError(t, err)
			assert.Equal(t, got, want)
		}
	}
	assert.NilError(t, theirs.Delete(ctx, "app/x"))
	_, err = ours.Version(ctx, "app/x")
	assert.ErrorIs(t, err, localvault.ErrNotFound)
	want, _, err := theirs.Set(ctx, "app/x", secret.NewValue([]byte("again")), localvault.SetOptions{})
	assert.NilError(t, err)
	got, err := ours.Version(ctx, "app/x")
	assert.NilError(t, err)
	assert.Equal(t, got, want)

	files, err := filepath.Glob(filepath.Join(dir, "secrets", "*.age"))
	assert.NilError(t, err)
	assert.NilError(t, os.Remove(files[0]))
	_, err = ours.Version(ctx, "app/x")
	assert.ErrorIs(t, err, localvault.ErrNotFound)
}
