package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/search"
)

// The crash matrix relies on it: what finds nothing must be able to find something.
func TestOnDisk_FindsAValueInEveryPlaceButThePrivateTmpfs(t *testing.T) {
	h := sharedHost(t)
	value, began := search.Canary(), time.Now().Add(-time.Second)
	assert.Equal(t, len(h.OnDisk(value, began)), 0)
	plant := func(dir string) {
		t.Helper()
		path := filepath.Join(dir, "planted")
		assert.NilError(t, os.WriteFile(path, []byte(value), 0o600))
		t.Cleanup(func() { assert.Check(t, os.Remove(path)) })
	}
	plant(h.HostPath("/run/dso/private"))
	assert.Equal(t, len(h.OnDisk(value, began)), 0, "where it may be")
	for i, dir := range []string{h.HostPath("/var/lib/dso/state"), filepath.Join(h.Engine.Dir(), "data"), h.HostPath("/run/dso")} {
		plant(dir)
		assert.Equal(t, len(h.OnDisk(value, began)), i+1, dir)
	}
}
