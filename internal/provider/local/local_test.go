package local_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/local"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func put(t *testing.T, v *localvault.Vault, path string, value []byte) secret.Version {
	t.Helper()
	ver, _, err := v.Set(t.Context(), path, secret.NewValue(bytes.Clone(value)), localvault.SetOptions{AllowEmpty: true})
	assert.NilError(t, err)
	return ver
}

func TestProvider_KeepsTheContract(t *testing.T) {
	open := func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := filepath.Join(t.TempDir(), "vault")
		v, _, err := localvault.Init(dir)
		assert.NilError(t, err)
		return local.New(dir), func(path string, value []byte) secret.Version { return put(t, v, path, value) }
	}
	providertest.Run(t, open)
	providertest.RunWatch(t, open, providertest.Options{})
}

func TestProvider_OpensAVaultThatIsMadeLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	p := local.New(dir)
	_, err := p.Version(t.Context(), "app/x")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, `run "docker dso init"`)

	v, _, err := localvault.Init(dir)
	assert.NilError(t, err)
	put(t, v, "app/x", []byte("v"))
	ver, err := p.Version(t.Context(), "app/x")
	assert.NilError(t, err)
	assert.Equal(t, ver, secret.Version("1"))
}

func TestProvider_FollowsAVaultThatWasMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	p := local.New(dir)
	v, _, err := localvault.Init(dir)
	assert.NilError(t, err)
	put(t, v, "app/x", []byte("old"))
	_, err = p.Version(t.Context(), "app/x")
	assert.NilError(t, err)

	assert.NilError(t, os.RemoveAll(dir))
	v, _, err = localvault.Init(dir)
	assert.NilError(t, err)
	put(t, v, "app/x", []byte("new"))
	_, err = p.Version(t.Context(), "app/x")
	assert.ErrorIs(t, err, localvault.ErrWrongKey)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	value, _, err := p.Get(t.Context(), "app/x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal()), "new")
}

func TestProvider_ADamagedFileIsPermanent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	_, _, err := localvault.Init(dir)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "secrets", "app~x.age"), []byte("junk"), 0o600))
	_, _, err = local.New(dir).Get(t.Context(), "app/x", "")
	assert.ErrorIs(t, err, provider.ErrPermanent)
}

func TestProvider_WatchSeesAChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	p := local.New(dir)
	_, err := p.Watch(t.Context())
	assert.ErrorIs(t, err, provider.ErrPermanent)
	v, _, err := localvault.Init(dir)
	assert.NilError(t, err)
	changed, err := p.Watch(t.Context())
	assert.NilError(t, err)
	put(t, v, "app/x", []byte("v"))
	_, ok := <-changed
	assert.Assert(t, ok)
}
