package gcp_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/gcp"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

type version struct {
	value   []byte
	created string
	state   string
}

// fake is as much of Secret Manager as the provider uses, and Google's token endpoint.
type fake struct {
	mu      sync.Mutex
	secrets map[string][]version
	clock   int
	tokens  int    // the last one is good
	refused string // a method that is refused
	calls   map[string]int
	crc     uint32 // added to each checksum
}

func newFake() *fake { return &fake{secrets: map[string][]version{}, calls: map[string]int{}} }

func (f *fake) put(name string, value []byte) secret.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock++
	created := fmt.Sprintf("2026-01-02T03:04:05.%06dZ", f.clock)
	f.secrets[name] = append(f.secrets[name], version{value, created, "ENABLED"})
	sum := sha256.Sum256([]byte(created))
	return secret.Version(fmt.Sprintf("%d-%x", len(f.secrets[name]), sum[:3]))
}

// revoke makes the tokens given so far worthless.
func (f *fake) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens++
}

func (f *fake) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *fake) token() string { return fmt.Sprint(providertest.Canary, f.tokens) }

func says(w http.ResponseWriter, status int, word string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "status": word, "message": providertest.Canary}})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": f.token(), "expires_in": 3600, "token_type": "Bearer"})
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+f.token() {
		says(w, http.StatusUnauthorized, "UNAUTHENTICATED")
		return
	}
	path, access := strings.CutSuffix(r.URL.Path, ":access")
	method := map[bool]string{true: "access", false: "look"}[access]
	f.calls[method]++
	if f.refused == method {
		says(w, http.StatusForbidden, "PERMISSION_DENIED")
		return
	}
	name, number, _ := strings.Cut(strings.TrimPrefix(path, "/v1/projects/shop/secrets/"), "/versions/")
	versions := f.secrets[name]
	n, err := strconv.Atoi(number)
	if number == "latest" {
		n, err = len(versions), nil
	}
	if err != nil || n < 1 || n > len(versions) {
		says(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	v := versions[n-1]
	out := map[string]any{"name": fmt.Sprintf("projects/42/secrets/%s/versions/%d", name, n)}
	switch {
	case access && v.state != "ENABLED":
		says(w, http.StatusBadRequest, "FAILED_PRECONDITION")
		return
	case access:
		sum := crc32.Checksum(v.value, crc32.MakeTable(crc32.Castagnoli)) + f.crc
		out["payload"] = map[string]any{"data": v.value, "dataCrc32c": fmt.Sprint(sum)}
	default:
		out["createTime"], out["state"] = v.created, v.state
	}
	_ = json.NewEncoder(w).Encode(out)
}

var key = sync.OnceValue(func() string {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
})

// account is a file of a service account whose tokens come from an address.
func account(t *testing.T, tokens string) []byte {
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "shop", "private_key_id": "1", "private_key": key(),
		"client_email": "dso@shop.iam.gserviceaccount.com", "token_uri": tokens,
	})
	assert.NilError(t, err)
	return text
}

func open(t *testing.T, f *fake, edit func(*gcp.Config)) (*gcp.Provider, *providertest.Proxy) {
	t.Helper()
	proxy := providertest.NewProxy(t, f)
	file := account(t, proxy.URL+"/token")
	cfg := gcp.Config{
		Project: "shop", Endpoint: proxy.URL, Timeout: time.Minute, TLS: rest.TLS{CAFile: proxy.CAFile},
		Credentials: func() (secret.Value, error) { return secret.NewValue(file), nil },
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := gcp.New("gcp", cfg)
	assert.NilError(t, err)
	return p, proxy
}

var options = providertest.Options{Path: "app-x"}

func TestProvider_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		f := newFake()
		p, _ := open(t, f, nil)
		return p, f.put
	}, options)
}

func TestProvider_StandsAStoreThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		f := newFake()
		p, proxy := open(t, f, nil)
		// The store refuses, and still gives tokens.
		proxy.Special(providertest.Denied, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				proxy.Pass(w, r)
				return
			}
			says(w, http.StatusForbidden, "PERMISSION_DENIED")
		})
		return providertest.Store{Provider: p, Put: f.put, Inject: proxy.Inject, Renew: func(*testing.T) { f.revoke() }}
	}, options)
}

func TestVersion_CostsNoValue(t *testing.T) {
	f := newFake()
	p, _ := open(t, f, nil)
	f.put("x", []byte("v"))
	for range 5 {
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
	assert.Equal(t, f.count("access"), 0)
	assert.Equal(t, f.count("look"), 5)
}

func TestVersion_IsItsNumberWhereItMayNotBeLookedAt(t *testing.T) {
	f := newFake()
	f.refused = "look"
	p, _ := open(t, f, nil)
	f.put("x", []byte("v"))
	for range 3 {
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Equal(t, v, secret.Version("1"))
		value, v, err := p.Get(t.Context(), "x", v)
		assert.NilError(t, err)
		assert.Equal(t, string(value.Reveal())+string(v), "v1")
	}
	assert.Equal(t, f.count("look"), 1)
}

func TestVersion_OfASecretThatWasMadeAnewIsAnother(t *testing.T) {
	f := newFake()
	p, _ := open(t, f, nil)
	before := f.put("x", []byte("old"))
	delete(f.secrets, "x")
	after := f.put("x", []byte("new"))
	v, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	assert.Equal(t, v, after)
	_, _, err = p.Get(t.Context(), "x", before)
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}

func TestVersion_ThatIsDisabledIsNone(t *testing.T) {
	for _, refused := range []string{"", "look"} {
		f := newFake()
		f.refused = refused
		p, _ := open(t, f, nil)
		first := f.put("x", []byte("a"))
		f.put("x", []byte("b"))
		f.secrets["x"][1].state = "DISABLED"
		_, err := p.Version(t.Context(), "x")
		assert.ErrorIs(t, err, provider.ErrNotFound)
		f.secrets["x"][0].state = "DESTROYED"
		_, _, err = p.Get(t.Context(), "x", first)
		assert.ErrorIs(t, err, provider.ErrNoVersion)
	}
}

func TestValue_WithAnotherChecksumIsNone(t *testing.T) {
	f := newFake()
	f.crc = 1
	p, _ := open(t, f, nil)
	f.put("x", []byte("v"))
	_, _, err := p.Get(t.Context(), "x", "")
	assert.ErrorIs(t, err, provider.ErrMalformed)
}

func TestPath_MustBeAName(t *testing.T) {
	p, proxy := open(t, newFake(), nil)
	for _, path := range []string{"app/db", "a.b", ""} {
		_, err := p.Version(t.Context(), path)
		assert.ErrorIs(t, err, provider.ErrPermanent)
		assert.ErrorContains(t, err, "letters, digits, - and _ only")
	}
	assert.Equal(t, proxy.Requests(), 0)
}

// Google's default chain reads the file that the environment names.
func TestCredentials_OfTheDefaultChain(t *testing.T) {
	f := newFake()
	f.put("x", []byte("v"))
	p, proxy := open(t, f, func(c *gcp.Config) { c.Credentials = nil })
	path := filepath.Join(t.TempDir(), "adc.json")
	assert.NilError(t, os.WriteFile(path, account(t, proxy.URL+"/token"), 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	_, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	f.revoke()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
	_, err = p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "give none")
}

func TestCredentials_ThatAreNoneAreSaidSo(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON": providertest.Canary, "a user's": `{"installed":{"client_secret":"` + providertest.Canary + `"}}`,
		"broken key": `{"type":"service_account","private_key":"` + providertest.Canary + `","client_email":"x","token_uri":"https://127.0.0.1:1/"}`,
	} {
		p, proxy := open(t, newFake(), func(c *gcp.Config) {
			c.Credentials = func() (secret.Value, error) { return secret.NewValue([]byte(text)), nil }
		})
		_, err := p.Version(t.Context(), "x")
		assert.ErrorIs(t, err, provider.ErrCredential, name)
		assert.Assert(t, !strings.Contains(err.Error(), providertest.Canary), "%v", err)
		assert.Equal(t, proxy.Requests(), 0)
	}
}

// Whoever has less time than the token's server takes does not wait for it.
func TestCredentials_NobodyWaitsLongerThanHisOwnTime(t *testing.T) {
	f := newFake()
	f.put("x", []byte("v"))
	p, proxy := open(t, f, nil)
	proxy.Inject(providertest.Slow)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := p.Version(ctx, "x")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
	}
}
