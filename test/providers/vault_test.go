package providers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/provider/vault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var fp = provider.NewFingerprint([]byte("key"))

// credential is one that somebody may replace.
type credential struct {
	mu    sync.Mutex
	value string
}

func (c *credential) set(v string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = v
}

func (c *credential) read() (secret.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return secret.NewValue([]byte(c.value)), nil
}

func fixed(v string) vault.Read { return (&credential{value: v}).read }

func open(t *testing.T, cfg vault.Config) *vault.Provider {
	t.Helper()
	cfg.Timeout = time.Minute
	p, err := vault.New("bao", cfg, fp)
	assert.NilError(t, err)
	return p
}

// put2 stores a value as the field value of a KV 2 secret and returns the version's
// name, which takes the moment of writing from the server.
func put2(t *testing.T, b *bao, mount string) providertest.Put {
	return func(path string, value []byte) secret.Version {
		data := b.do(t, "POST", mount+"/data/"+path, o{"data": o{"value": string(value)}})
		sum := sha256.Sum256([]byte(at(data, "data", "created_time").(string)))
		return secret.Version(fmt.Sprintf("%v-%x", at(data, "data", "version"), sum[:3]))
	}
}

func put1(t *testing.T, b *bao, mount string) providertest.Put {
	return func(path string, value []byte) secret.Version {
		b.do(t, "POST", mount+"/"+path, o{"value": string(value)})
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		assert.NilError(t, e.Encode(o{"value": string(value)}))
		return fp.Version(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	}
}

func TestVault_KeepsTheContract(t *testing.T) {
	b := server(t)
	t.Run("KV2", func(t *testing.T) {
		providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
			mount := b.mount(t, "2")
			token := b.token(t, o{"policies": []string{b.policy(t, mount)}})
			return open(t, vault.Config{Address: b.addr, Mount: mount, Login: vault.Token(fixed(token), false)}), put2(t, b, mount)
		}, providertest.Options{Field: "value", TextOnly: true})
	})
	t.Run("KV1", func(t *testing.T) {
		providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
			mount := b.mount(t, "1")
			token := b.token(t, o{"policies": []string{b.policy(t, mount)}})
			return open(t, vault.Config{Address: b.addr, Mount: mount, Login: vault.Token(fixed(token), false)}), put1(t, b, mount)
		}, providertest.Options{Field: "value", TextOnly: true, NoHistory: true})
	})
}

func TestVault_StandsAStoreThatMisbehaves(t *testing.T) {
	b := server(t)
	for _, kv := range []string{"1", "2"} {
		t.Run("KV"+kv, func(t *testing.T) {
			providertest.RunFaults(t, func(t *testing.T) providertest.Store {
				mount := b.mount(t, kv)
				policy := b.policy(t, mount)
				proxy := providertest.NewProxy(t, b.addr)
				cred := &credential{value: b.token(t, o{"policies": []string{policy}, "id": fmt.Sprintf("%s-%d", providertest.Canary, b.next.Add(1))})}
				// Vault says 403 to a path that the token may not read and to a token
				// that is no good alike.
				proxy.Special(providertest.Denied, func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/lookup-self") {
						proxy.Pass(w, r)
						return
					}
					http.Error(w, `{"errors":["`+providertest.Canary+`"]}`, http.StatusForbidden)
				})
				proxy.Special(providertest.Expired, func(w http.ResponseWriter, _ *http.Request) {
					http.Error(w, `{"errors":["`+providertest.Canary+`"]}`, http.StatusForbidden)
				})
				put := put2(t, b, mount)
				if kv == "1" {
					put = put1(t, b, mount)
				}
				return providertest.Store{
					Provider: open(t, vault.Config{
						Address: proxy.URL, Mount: mount, TLS: rest.TLS{CAFile: proxy.CAFile}, Login: vault.Token(cred.read, false),
					}),
					Put: put, Inject: proxy.Inject,
					Renew: func(t *testing.T) {
						b.do(t, "POST", "auth/token/revoke", o{"token": cred.value})
						cred.set(b.token(t, o{"policies": []string{policy}}))
					},
				}
			}, providertest.Options{Field: "value"})
		})
	}
}

// A path begins with its mount when the configuration names none, and the server
// says which version it is.
func TestVault_FindsTheMountAndItsVersion(t *testing.T) {
	b := server(t)
	for kv, put := range map[string]func(*testing.T, *bao, string) providertest.Put{"1": put1, "2": put2} {
		name := b.mount(t, kv)
		want := put(t, b, name)("team/app/db", []byte("v"))
		token := b.token(t, o{"policies": []string{b.policy(t, name)}})
		p := open(t, vault.Config{Address: b.addr, Login: vault.Token(fixed(token), false)})
		v, err := p.Version(t.Context(), name+"/team/app/db")
		assert.NilError(t, err)
		assert.Equal(t, v, want)
		_, err = p.Version(t.Context(), name+"/team/app/other")
		assert.ErrorIs(t, err, provider.ErrNotFound)
		_, err = p.Version(t.Context(), "no-such-mount/x")
		assert.ErrorIs(t, err, provider.ErrDenied)
		_, err = p.Version(t.Context(), name)
		assert.Assert(t, err != nil)
	}
	p := open(t, vault.Config{Address: b.addr, Login: vault.Token(fixed(rootToken), false)})
	_, err := p.Version(t.Context(), "sys/policies")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "neither a KV nor a database engine")
}

// A token that may read the data and nothing else is enough.
func TestVault_ReadsWithoutARightToTheMetadata(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	want := put2(t, b, mount)("x", []byte("v"))
	b.do(t, "PUT", "sys/policies/acl/"+mount, o{"policy": fmt.Sprintf(`path "%s/data/*" { capabilities = ["read"] }`, mount)})
	p := open(t, vault.Config{Address: b.addr, Mount: mount, KVVersion: 2, Login: vault.Token(fixed(b.token(t, o{"policies": []string{mount}})), false)})
	for range 2 {
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Equal(t, v, want)
	}
}

func TestVault_DeletedAndMadeAnew(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	put := put2(t, b, mount)
	p := open(t, vault.Config{Address: b.addr, Mount: mount, Login: vault.Token(fixed(rootToken), false)})
	first := put("x", []byte("one"))
	second := put("x", []byte("two"))
	b.do(t, "DELETE", mount+"/data/x", nil)
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	assert.ErrorContains(t, err, "version 2 is deleted")
	_, _, err = p.Get(t.Context(), "x", "")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	_, _, err = p.Get(t.Context(), "x", second)
	assert.ErrorIs(t, err, provider.ErrNoVersion)
	_, _, err = p.Get(t.Context(), "x", first)
	assert.NilError(t, err)

	// The server tells the moment of writing in whole seconds.
	var again secret.Version
	assert.NilError(t, until(5*time.Second, func() error {
		b.do(t, "DELETE", mount+"/metadata/x", nil)
		if again = put("x", []byte("another")); again == first {
			return fmt.Errorf("the first version of a new life is that of the old one")
		}
		return nil
	}))
	_, _, err = p.Get(t.Context(), "x", first)
	assert.ErrorIs(t, err, provider.ErrNoVersion)
	_, v, err := p.Get(t.Context(), "x", "")
	assert.NilError(t, err)
	assert.Equal(t, v, again)
}

func TestVault_Namespace(t *testing.T) {
	b := server(t)
	b.do(t, "POST", "sys/namespaces/team", o{})
	b.do(t, "POST", "team/sys/mounts/kv", o{"type": "kv", "options": o{"version": "1"}})
	b.do(t, "POST", "team/kv/x", o{"value": "v"})
	p := open(t, vault.Config{Address: b.addr, Namespace: "team", Login: vault.Token(fixed(rootToken), false)})
	_, _, err := p.Get(t.Context(), "kv/x", "")
	assert.NilError(t, err)
	p = open(t, vault.Config{Address: b.addr, Login: vault.Token(fixed(rootToken), false)})
	_, _, err = p.Get(t.Context(), "kv/x", "")
	assert.Assert(t, err != nil, "the namespace was needed")
}

func TestVault_EveryLoginMethodGetsOverALostToken(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	policy := b.policy(t, mount)
	want := put2(t, b, mount)("x", []byte("v"))
	for name, login := range map[string]func(t *testing.T) vault.Login{
		"approle": func(t *testing.T) vault.Login {
			role, id := b.approle(t, policy)
			return vault.AppRole("approle-"+policy, role, fixed(id), false)
		},
		"approle, wrapped": func(t *testing.T) vault.Login {
			role, _ := b.approle(t, policy)
			return vault.AppRole("approle-"+policy, role, fixed(b.wrapped(t, "auth/approle-"+policy+"/role/dso/secret-id", o{})), true)
		},
		"approle without a secret id": func(t *testing.T) vault.Login {
			role, _ := b.approle(t, policy)
			b.do(t, "POST", "auth/approle-"+policy+"/role/dso", o{"token_policies": policy, "bind_secret_id": false, "token_bound_cidrs": "127.0.0.1/32"})
			return vault.AppRole("approle-"+policy, role, nil, false)
		},
		"jwt": func(t *testing.T) vault.Login {
			token := b.jwt(t, policy)
			return vault.JWT("jwt-"+policy, "dso", fixed(token))
		},
		"kubernetes": func(t *testing.T) vault.Login {
			b.kubernetes(t, policy)
			return vault.JWT("kubernetes-"+policy, "dso", fixed(b.jwt(t, policy)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, vault.Config{Address: b.addr, Mount: mount, Login: login(t)})
			for range 3 {
				v, err := p.Version(t.Context(), "x")
				assert.NilError(t, err)
				assert.Equal(t, v, want)
				b.revokeAll(t, policy)
			}
		})
	}
}

// revokeAll revokes every token that a login gave.
func (b *bao) revokeAll(t *testing.T, policy string) {
	for _, method := range []string{"approle-", "jwt-", "kubernetes-"} {
		b.do(t, "POST", "sys/leases/revoke-prefix/auth/"+method+policy+"/login", nil)
	}
}

func (b *bao) enable(t *testing.T, kind, path string) {
	t.Helper()
	if at(b.do(t, "GET", "sys/auth", nil), "data", path+"/") == nil {
		b.do(t, "POST", "sys/auth/"+path, o{"type": kind})
	}
}

func (b *bao) approle(t *testing.T, policy string) (roleID, secretID string) {
	path := "approle-" + policy
	b.enable(t, "approle", path)
	b.do(t, "POST", "auth/"+path+"/role/dso", o{"token_policies": policy, "bind_secret_id": true})
	roleID = at(b.do(t, "GET", "auth/"+path+"/role/dso/role-id", nil), "data", "role_id").(string)
	return roleID, at(b.do(t, "POST", "auth/"+path+"/role/dso/secret-id", o{}), "data", "secret_id").(string)
}

// jwt lets the server trust a key of ours, and signs a token with it.
func (b *bao) jwt(t *testing.T, policy string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	assert.NilError(t, err)
	path := "jwt-" + policy
	b.enable(t, "jwt", path)
	b.do(t, "POST", "auth/"+path+"/config", o{"jwt_validation_pubkeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}})
	b.do(t, "POST", "auth/"+path+"/role/dso", o{"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"bao"}, "token_policies": policy})
	part := func(x any) string {
		text, err := json.Marshal(x)
		assert.NilError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(o{"alg": "ES256", "typ": "JWT"}) + "." + part(o{
		"sub": "system:serviceaccount:default:dso", "aud": []string{"bao"}, "iss": "kubernetes/serviceaccount",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": o{"namespace": "default", "serviceaccount": o{"name": "dso", "uid": "1"}},
	})
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	assert.NilError(t, err)
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// kubernetes lets the server ask a cluster that knows one service account.
func (b *bao) kubernetes(t *testing.T, policy string) {
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(o{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": o{"authenticated": true, "audiences": []string{"bao"}, "user": o{"username": "system:serviceaccount:default:dso", "uid": "1", "groups": []string{"system:serviceaccounts"}}},
		})
	}))
	t.Cleanup(cluster.Close)
	certFile, _ := providertest.Certificate(t, "cluster")
	ca, err := os.ReadFile(certFile)
	assert.NilError(t, err)
	path := "kubernetes-" + policy
	b.enable(t, "kubernetes", path)
	b.do(t, "POST", "auth/"+path+"/config", o{"kubernetes_host": cluster.URL, "kubernetes_ca_cert": string(ca), "disable_local_ca_jwt": true, "token_reviewer_jwt": b.jwt(t, policy)})
	b.do(t, "POST", "auth/"+path+"/role/dso", o{
		"bound_service_account_names": "*", "bound_service_account_namespaces": "*", "token_policies": policy,
	})
}

// The method cert needs a server that speaks TLS itself.
func TestVault_LogsInWithACertificate(t *testing.T) {
	dir := t.TempDir()
	b, stop, err := start("-dev-tls", "-dev-tls-cert-dir="+dir)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, stop()) })
	mount := b.mount(t, "2")
	want := put2(t, b, mount)("x", []byte("v"))
	certFile, keyFile := providertest.Certificate(t, "dso")
	pemText, err := os.ReadFile(certFile)
	assert.NilError(t, err)
	b.enable(t, "cert", "cert")
	b.do(t, "POST", "auth/cert/certs/dso", o{"certificate": string(pemText), "token_policies": b.policy(t, mount)})
	cfg := vault.Config{
		Address: b.addr, Mount: mount, Login: vault.Cert("cert", "dso"),
		TLS: rest.TLS{CAFile: filepath.Join(dir, "vault-ca.pem"), CertFile: certFile, KeyFile: keyFile},
	}
	p := open(t, cfg)
	for range 3 {
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Equal(t, v, want)
		b.do(t, "POST", "sys/leases/revoke-prefix/auth/cert/login", nil)
	}
	cfg.TLS.CertFile, cfg.TLS.KeyFile = providertest.Certificate(t, "dso")
	_, err = open(t, cfg).Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	cfg.TLS.CAFile = certFile
	_, err = open(t, cfg).Version(t.Context(), "x")
	assert.ErrorIs(t, err, rest.ErrElsewhere)
}

func TestVault_AWrappedTokenIsUnwrappedOnce(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	put2(t, b, mount)("x", []byte("v"))
	b.policy(t, mount)
	w := b.wrapped(t, "auth/token/create", o{"policies": []string{mount}})
	cfg := vault.Config{Address: b.addr, Mount: mount, Login: vault.Token(fixed(w), true)}
	p := open(t, cfg)
	for range 2 {
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
	cfg.Login = vault.Token(fixed(w), true)
	_, err := open(t, cfg).Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "wrapping token is spent")
	assert.Assert(t, !strings.Contains(err.Error(), w))
}

func TestVault_KeepRenewsATokenThatNobodyUses(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	token := b.token(t, o{"policies": []string{b.policy(t, mount)}, "ttl": "3s", "renewable": true, "explicit_max_ttl": "1h"})
	p := open(t, vault.Config{Address: b.addr, Mount: mount, Login: vault.Token(fixed(token), false)})
	done := make(chan struct{})
	ctx := t.Context()
	go func() { defer close(done); p.Keep(ctx) }()
	assert.NilError(t, until(20*time.Second, func() error {
		info, err := b.try("POST", "auth/token/lookup", o{"token": token}, false)
		if err != nil {
			return err
		}
		if at(info, "data", "last_renewal") == nil {
			return fmt.Errorf("not renewed yet")
		}
		return nil
	}))
	t.Cleanup(func() { <-done }) // t's context has ended by then
}

func TestVault_ErrorsOfTheLoginSayWhichButNotTheCredential(t *testing.T) {
	b := server(t)
	mount := b.mount(t, "2")
	role, _ := b.approle(t, b.policy(t, mount))
	for name, login := range map[string]vault.Login{
		"token":   vault.Token(fixed(providertest.Canary), false),
		"newline": vault.Token(fixed(providertest.Canary+"\n"), false),
		"wrapped": vault.Token(fixed(providertest.Canary), true),
		"approle": vault.AppRole("approle-"+mount, role, fixed(providertest.Canary), false),
		"jwt":     vault.JWT("jwt-none", "dso", fixed(providertest.Canary)),
	} {
		_, err := open(t, vault.Config{Address: b.addr, Mount: mount, Login: login}).Version(t.Context(), "x")
		assert.ErrorIs(t, err, provider.ErrCredential, name)
		assert.ErrorContains(t, err, "provider bao: x: ", name)
		assert.Assert(t, !strings.Contains(err.Error(), providertest.Canary), name)
	}
}
