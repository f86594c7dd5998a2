package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// answering is a store that has one answer to everything.
type answering struct{ err error }

func (a answering) Version(context.Context, string) (secret.Version, error) { return "", a.err }

func (a answering) Get(context.Context, string, secret.Version) (secret.Value, secret.Version, error) {
	return secret.Value{}, "", a.err
}

func checked(t *testing.T, store string, err error) wire.CheckResult {
	t.Helper()
	p := &provider.Retry{Provider: answering{err}, Name: store, Attempts: 3, Backoff: time.Second}
	a := &Agent{resolver: resolve.New(provider.NewRegistry(map[string]provider.Provider{store: p}), nil)}
	return a.check(t.Context(), "", "dso://"+store+"/app/db")
}

func TestCheck_DoesNotWaitForAsLongAsAStoreAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		res := checked(t, "vault", &provider.Throttled{After: 24 * time.Hour})
		assert.Equal(t, res.Error, "cannot resolve dso://vault/app/db for the check: secret vault:app/db: the store asks to wait 24h0m0s")
		assert.Assert(t, time.Since(began) <= checkFor)
	})
}

func TestCheck_HintNamesTheStoreThatWasAsked(t *testing.T) {
	assert.Equal(t, checked(t, "vault", provider.ErrNotFound).Hint, "the provider vault of dso.yaml was asked for app/db: look there, or correct the path")
	assert.Equal(t, checked(t, secret.DefaultProvider, provider.ErrNotFound).Hint, "docker dso secret list shows what the local vault has")
}
