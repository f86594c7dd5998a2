package providers

import (
	"encoding/json"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/vault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// login returns what a value says to log in with.
func login(t *testing.T, value secret.Value) (username, password string) {
	t.Helper()
	var c struct{ Username, Password string }
	assert.NilError(t, json.Unmarshal(value.Reveal(), &c))
	return c.Username, c.Password
}

// A static role is one account whose password the server changes: a version stays until
// it does, and the value opens the database.
func TestVault_ReadsAStaticRoleOfTheDatabase(t *testing.T) {
	b, pg := server(t), startPostgres(t)
	mount := b.database(t, pg)
	assert.NilError(t, pg.try("admin", pg.password, "create role shop login password 'first'"))
	b.do(t, "POST", mount+"/static-roles/shop", o{"db_name": "shop", "username": "shop", "rotation_period": "24h"})
	token := b.token(t, o{"policies": []string{b.policy(t, mount)}})
	p := open(t, vault.Config{Address: b.addr, Login: vault.Token(fixed(token), false)})
	path := mount + "/static-creds/shop"

	read := func() secret.Version {
		t.Helper()
		v, err := p.Version(t.Context(), path)
		assert.NilError(t, err)
		value, of, err := p.Get(t.Context(), path, v)
		assert.NilError(t, err)
		assert.Equal(t, of, v)
		username, password := login(t, value)
		assert.Equal(t, username, "shop")
		assert.NilError(t, pg.try(username, password, "select 1"))
		return v
	}
	first := read()
	assert.Equal(t, read(), first)
	b.do(t, "POST", mount+"/rotate-role/shop", nil)
	second := read()
	assert.Assert(t, second != first)
	_, _, err := p.Get(t.Context(), path, first)
	assert.ErrorIs(t, err, provider.ErrNoVersion)

	_, err = p.Version(t.Context(), mount+"/static-creds/none")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	_, err = p.Version(t.Context(), mount+"/config/shop")
	assert.ErrorIs(t, err, provider.ErrPermanent)
}
