package providertest

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Files returns what replaces files below a directory as editors and configuration
// management do; version names what a value becomes.
func Files(t *testing.T, dir string, version func(value []byte) secret.Version) Put {
	return func(path string, value []byte) secret.Version {
		t.Helper()
		full := filepath.Join(dir, path)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o700))
		assert.NilError(t, os.WriteFile(full+".tmp", value, 0o600))
		assert.NilError(t, os.Rename(full+".tmp", full))
		return version(value)
	}
}
