package http_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	httpprovider "github.com/docker-secret-operator/dso/internal/provider/http"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var fp = provider.NewFingerprint([]byte("key"))

// store is an endpoint that answers {"data":{"value":…,"version":…}}.
type store struct {
	mu     sync.Mutex
	values map[string][]byte
	counts map[string]int
	token  string
	etags  bool
	plain  bool // the value itself
	full   int  // answers with a value
}

func newStore() *store {
	return &store{values: map[string][]byte{}, counts: map[string]int{}, token: providertest.Canary}
}

func (s *store) put(path string, value []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[path] = value
	s.counts[path]++
	return s.counts[path]
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		http.Error(w, providertest.Canary, http.StatusUnauthorized)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	value, ok := s.values[path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if s.etags {
		tag := fmt.Sprintf(`"%d"`, s.counts[path])
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.full++
	if s.plain {
		_, _ = w.Write(value)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{
		"value": base64.StdEncoding.EncodeToString(value), "version": s.counts[path],
	}})
}

// bearer is a credential that can change.
type bearer struct {
	mu    sync.Mutex
	token string
}

func (b *bearer) set(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.token = token
}

func (b *bearer) headers() (http.Header, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return http.Header{"Authorization": {"Bearer " + b.token}}, nil
}

func open(t *testing.T, s *store, edit func(*httpprovider.Config)) (*httpprovider.Provider, *providertest.Proxy, *bearer) {
	proxy := providertest.NewProxy(t, s)
	cred := &bearer{token: providertest.Canary}
	cfg := httpprovider.Config{
		URL: proxy.URL + "/v1/{path}", Value: "/data/value", Version: "/data/version", Base64: true,
		Timeout: time.Minute, TLS: rest.TLS{CAFile: proxy.CAFile}, Headers: cred.headers,
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := httpprovider.New("parameters", cfg, fp)
	assert.NilError(t, err)
	return p, proxy, cred
}

func TestProvider_KeepsTheContract(t *testing.T) {
	for name, c := range map[string]struct {
		etags, plain bool
		edit         func(*httpprovider.Config)
		version      func(n int, value []byte) secret.Version
	}{
		"version in the answer": {version: func(n int, _ []byte) secret.Version { return secret.Version(fmt.Sprint(n)) }},
		"etag": {
			etags: true, plain: true,
			edit:    func(c *httpprovider.Config) { c.Value, c.Version, c.Base64 = "", "", false },
			version: func(n int, _ []byte) secret.Version { return secret.Version(fmt.Sprintf(`"%d"`, n)) },
		},
		"fingerprint": {
			edit:    func(c *httpprovider.Config) { c.Version = "" },
			version: func(_ int, value []byte) secret.Version { return fp.Version(value) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
				s := newStore()
				s.etags, s.plain = c.etags, c.plain
				p, _, _ := open(t, s, c.edit)
				return p, func(path string, value []byte) secret.Version { return c.version(s.put(path, value), value) }
			}, providertest.Options{NoHistory: true})
		})
	}
}

func TestProvider_StandsAStoreThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		s := newStore()
		p, proxy, cred := open(t, s, nil)
		n := 0
		return providertest.Store{
			Provider: p, Inject: proxy.Inject,
			Put: func(path string, value []byte) secret.Version { return secret.Version(fmt.Sprint(s.put(path, value))) },
			Renew: func(*testing.T) { // somebody writes the new token where the old one was
				n++
				s.mu.Lock()
				s.token = fmt.Sprint(providertest.Canary, n)
				s.mu.Unlock()
				cred.set(fmt.Sprint(providertest.Canary, n))
			},
		}
	}, providertest.Options{})
}

func TestVersion_CostsNoValueWhileTheETagHolds(t *testing.T) {
	s := newStore()
	s.etags = true
	p, proxy, _ := open(t, s, func(c *httpprovider.Config) { c.Version = "" })
	s.put("a", []byte("v"))
	for range 5 {
		_, err := p.Version(t.Context(), "a")
		assert.NilError(t, err)
	}
	assert.Equal(t, proxy.Requests(), 5)
	assert.Equal(t, s.full, 1)
}

// A version stands in status, the journal and the log.
func TestVersion_IsNeverTheValueItself(t *testing.T) {
	for _, encoded := range []bool{false, true} {
		s := newStore()
		p, _, _ := open(t, s, func(c *httpprovider.Config) { c.Version, c.Base64 = c.Value, encoded })
		s.put("a", []byte("v"))
		value, v, err := p.Get(t.Context(), "a", "")
		assert.NilError(t, err)
		assert.Equal(t, v, fp.Version(value.Reveal()), "base64: %t", encoded)
	}
}

func TestAnswer_PointersReachIntoIt(t *testing.T) {
	answer := `{"a":{"b/c":[{"~":"found"}],"n":5,"null":null}}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	defer srv.Close()
	get := func(pointer string) (secret.Value, error) {
		p, err := httpprovider.New("p", httpprovider.Config{URL: srv.URL + "/{path}", Value: pointer, Timeout: time.Second,
			Headers: func() (http.Header, error) { return http.Header{}, nil }}, fp)
		assert.NilError(t, err)
		v, _, err := p.Get(t.Context(), "x", "")
		return v, err
	}
	for pointer, want := range map[string]string{"/a/b~1c/0/~0": "found", "/a/n": "5", "/a/b~1c": `[{"~":"found"}]`} {
		v, err := get(pointer)
		assert.NilError(t, err)
		assert.Equal(t, string(v.Reveal()), want)
	}
	for _, pointer := range []string{"/x", "/a/null", "/a/b~1c/1", "/a/b~1c/x", "/a/n/x"} {
		_, err := get(pointer)
		assert.ErrorIs(t, err, provider.ErrMalformed)
		assert.ErrorContains(t, err, "it has no "+pointer)
	}
}
