package env_test

import (
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/env"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var fp = provider.NewFingerprint([]byte("key"))

func TestProvider_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(*testing.T) (provider.Provider, providertest.Put) {
		var mu sync.Mutex
		vars := map[string]string{}
		lookup := func(name string) (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			v, ok := vars[name]
			return v, ok
		}
		return env.New("env", "DSO_", lookup, fp), func(path string, value []byte) secret.Version {
			mu.Lock()
			defer mu.Unlock()
			vars["DSO_"+env.Variable(path)] = string(value)
			return fp.Version(value)
		}
	}, providertest.Options{NoHistory: true})
}

func TestProvider_ReadsNothingWithoutThePrefix(t *testing.T) {
	t.Setenv("DSO_DB_PASSWORD", "v")
	p := env.New("env", "DSO_", func(name string) (string, bool) { return name, name == "DSO_DB_PASSWORD" || name == "PATH" }, fp)
	value, _, err := p.Get(t.Context(), "db/pass-word", "")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	assert.ErrorContains(t, err, "provider env: db/pass-word: no such secret: the agent has no variable DSO_DB_PASS_WORD")
	assert.Equal(t, value.Len(), 0)
	_, _, err = p.Get(t.Context(), "PATH", "")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	_, _, err = p.Get(t.Context(), "db/password", "")
	assert.NilError(t, err)
}
