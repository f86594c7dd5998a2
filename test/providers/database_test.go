package providers

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

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

// memory is what the agent gives: a file, and the sealed values.
type memory struct {
	mu     sync.Mutex
	data   []byte
	token  secret.Value
	sealed map[secret.Version]secret.Value
}

func (m *memory) Token() (secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token, nil
}

func (m *memory) KeepToken(token secret.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = token
	return nil
}

func (m *memory) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, nil
}

func (m *memory) Save(data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = data
	return nil
}

func (m *memory) Recall(_ string, v secret.Version) (secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.sealed[v]; ok {
		return value, nil
	}
	return secret.Value{}, provider.ErrNoVersion
}

// dynamic is a dynamic role on a database, and a token that may use it.
type dynamic struct {
	bao   *bao
	pg    *postgres
	mount string
	path  string
	token string
}

func newDynamic(t *testing.T, ttl, longest string, token o) *dynamic {
	t.Helper()
	d := &dynamic{bao: server(t), pg: startPostgres(t)}
	d.mount = d.bao.database(t, d.pg)
	d.path = d.mount + "/creds/shop"
	d.bao.do(t, "POST", d.mount+"/roles/shop", o{
		"db_name": "shop", "default_ttl": ttl, "max_ttl": longest,
		"creation_statements": `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`,
	})
	params := o{"policies": []string{d.bao.policy(t, d.mount)}}
	maps.Copy(params, token)
	d.token = d.bao.token(t, params)
	return d
}

func (d *dynamic) open(t *testing.T, m vault.Memory) *vault.Provider {
	t.Helper()
	return open(t, vault.Config{Address: d.bao.addr, Login: vault.Token(fixed(d.token), false), Memory: m})
}

// read returns the account, which opens the database.
func (d *dynamic) read(t *testing.T, p *vault.Provider) (secret.Version, secret.Value) {
	t.Helper()
	v, err := p.Version(t.Context(), d.path)
	assert.NilError(t, err)
	value, of, err := p.Get(t.Context(), d.path, v)
	assert.NilError(t, err)
	assert.Equal(t, of, v)
	username, password := login(t, value)
	assert.NilError(t, d.pg.try(username, password, "select 1"))
	return v, value
}

func TestVault_ADynamicRoleIsOneAccountUntilItsLeaseEnds(t *testing.T) {
	d := newDynamic(t, "1h", "2h", nil)
	p := d.open(t, nil)
	first, value := d.read(t, p)
	for range 3 {
		v, again := d.read(t, p)
		assert.Equal(t, v, first)
		assert.DeepEqual(t, again.Reveal(), value.Reveal())
	}
	_, _, err := p.Get(t.Context(), d.path, "0123456789abcdef")
	assert.ErrorIs(t, err, provider.ErrNoVersion)
	_, err = p.Version(t.Context(), d.mount+"/creds/none")
	assert.ErrorIs(t, err, provider.ErrNotFound)
}

// The agent's restart makes no new account: the lease is remembered, its value is
// sealed, and without the seal there is another account.
func TestVault_LeasesOutliveTheAgent(t *testing.T) {
	d := newDynamic(t, "1h", "2h", nil)
	m := &memory{sealed: map[secret.Version]secret.Value{}}
	first, value := d.read(t, d.open(t, m))
	username, password := login(t, value)
	assert.Assert(t, !strings.Contains(string(m.data), password) && !strings.Contains(string(m.data), username) && !strings.Contains(string(m.data), d.token), "%s", m.data)

	p := d.open(t, m)
	v, err := p.Version(t.Context(), d.path)
	assert.NilError(t, err)
	assert.Equal(t, v, first)
	m.sealed[first] = value
	v, again := d.read(t, p)
	assert.Equal(t, v, first)
	assert.DeepEqual(t, again.Reveal(), value.Reveal())

	delete(m.sealed, first)
	other, v, err := d.open(t, m).Get(t.Context(), d.path, "")
	assert.NilError(t, err)
	assert.Assert(t, v != first)
	username, password = login(t, other)
	assert.NilError(t, d.pg.try(username, password, "select 1"))
}

// A login gives another token each time, and a lease dies with the one that made it: the
// token is kept, and used again by the same login only.
func TestVault_LeasesOutliveTheAgentUnderALogin(t *testing.T) {
	d := newDynamic(t, "3s", "1h", nil)
	role, id := d.bao.approle(t, d.mount)
	m := &memory{sealed: map[secret.Version]secret.Value{}}
	// begin is the next agent, whose provider looks after its leases.
	begin := func(resume string) (p *vault.Provider, stop func()) {
		p = open(t, vault.Config{Address: d.bao.addr, Login: vault.AppRole("approle-"+d.mount, role, fixed(id), false), Memory: m, Resume: resume})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Keep(ctx) }()
		return p, func() { cancel(); <-done }
	}
	p, stop := begin("approle dso")
	first, value := d.read(t, p)
	m.sealed[first] = value
	stop()
	var kept struct{ Token string }
	assert.NilError(t, json.Unmarshal(m.token.Reveal(), &kept))
	assert.Assert(t, kept.Token != "" && !strings.Contains(string(m.data), kept.Token))

	p, stop = begin("approle dso")
	began := time.Now()
	assert.NilError(t, until(30*time.Second, func() error {
		v, again := d.read(t, p)
		assert.Equal(t, v, first, "another account after %s", time.Since(began))
		assert.DeepEqual(t, again.Reveal(), value.Reveal())
		if time.Since(began) < 6*time.Second {
			return errors.New("it may be the first life still")
		}
		return nil
	}))
	stop()

	p, stop = begin("approle another")
	defer stop()
	assert.NilError(t, until(30*time.Second, func() error {
		if v, _ := d.read(t, p); v == first {
			return errors.New("still the first")
		}
		return nil
	}))
}

// While Keep runs a lease is renewed; when it cannot be renewed any more there is another
// account, before the one before ends.
func TestVault_KeepRenewsALeaseUntilItsGreatestLife(t *testing.T) {
	d := newDynamic(t, "6s", "16s", nil) // a third of it is enough for a slow machine
	p := d.open(t, nil)
	ctx := t.Context()
	done := make(chan struct{})
	go func() { defer close(done); p.Keep(ctx) }()
	t.Cleanup(func() { <-done }) // t's context has ended by then
	told, err := p.Watch(ctx)
	assert.NilError(t, err)
	began := time.Now()
	first, _ := d.read(t, p)
	assert.NilError(t, until(30*time.Second, func() error {
		v, value := d.read(t, p)
		username, password := login(t, value)
		assert.NilError(t, d.pg.try(username, password, "select 1"), "an account that has ended")
		if v == first {
			return errors.New("still the first")
		}
		return nil
	}))
	assert.Assert(t, time.Since(began) > 6*time.Second, "it was not renewed: %s", time.Since(began))
	<-told
}

// A lease dies with its token: with another token there is another account in time.
func TestVault_ALeaseLastsNoLongerThanItsToken(t *testing.T) {
	d := newDynamic(t, "1h", "2h", o{"ttl": "3s", "explicit_max_ttl": "3s"})
	m := &memory{sealed: map[secret.Version]secret.Value{}}
	first, _ := d.read(t, d.open(t, m))
	d.token = d.bao.token(t, o{"policies": []string{d.mount}})
	p := d.open(t, m)
	v, err := p.Version(t.Context(), d.path)
	assert.NilError(t, err)
	assert.Equal(t, v, first, "it holds still")
	assert.NilError(t, until(20*time.Second, func() error {
		v, err := p.Version(t.Context(), d.path)
		if err == nil && v == first {
			err = errors.New("still the first")
		}
		return err
	}))
	d.read(t, p)
}

// What somebody revokes is replaced at the next comparison, and not only when it would be
// renewed: the account itself, or the token that made it, with which it dies.
func TestVault_ARevokedLeaseIsReplaced(t *testing.T) {
	d := newDynamic(t, "1h", "2h", nil)
	role, id := d.bao.approle(t, d.mount)
	m := &memory{sealed: map[secret.Version]secret.Value{}}
	p := open(t, vault.Config{Address: d.bao.addr, Login: vault.AppRole("approle-"+d.mount, role, fixed(id), false), Memory: m, Resume: "approle"})
	last, _ := d.read(t, p)
	for what, revoke := range map[string]func(){
		"the lease": func() {
			var kept struct {
				Leases map[string]struct {
					ID string `json:"lease_id"`
				}
			}
			assert.NilError(t, json.Unmarshal(m.data, &kept))
			d.bao.do(t, "POST", "sys/leases/revoke", o{"lease_id": kept.Leases[d.path].ID, "sync": true})
		},
		"the token": func() {
			var kept struct{ Token string }
			assert.NilError(t, json.Unmarshal(m.token.Reveal(), &kept))
			d.bao.do(t, "POST", "auth/token/revoke", o{"token": kept.Token})
		},
	} {
		revoke()
		assert.NilError(t, until(20*time.Second, func() error {
			v, err := p.Version(t.Context(), d.path)
			if err == nil && v == last {
				err = errors.New(what + " is revoked, and the account still the one before")
			}
			return err
		}))
		last, _ = d.read(t, p)
	}
}

// A policy that forbids to ask for a lease costs nobody the account.
func TestVault_ALeaseNeedsNoRightToBeLookedUp(t *testing.T) {
	d := newDynamic(t, "1h", "2h", o{"no_default_policy": true})
	d.bao.do(t, "PUT", "sys/policies/acl/"+d.mount, o{"policy": `
path "` + d.mount + `/*" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "sys/internal/ui/mounts/*" { capabilities = ["read"] }`})
	p := d.open(t, nil)
	first, _ := d.read(t, p)
	second, _ := d.read(t, p)
	assert.Equal(t, second, first)
}
