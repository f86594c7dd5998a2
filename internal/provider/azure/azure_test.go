package azure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	azsecretsfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets/fake"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/azure"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

type version struct{ id, value string }

// vault is the official fake behind a socket, with what gives tokens beside it.
type vault struct {
	mu       sync.Mutex
	secrets  map[string][]version
	count    int
	tokens   int    // the last one is good
	password string // of the application
	fake     *azsecretsfake.ServerTransport
}

func newVault() *vault {
	v := &vault{secrets: map[string][]version{}, password: providertest.Canary}
	v.fake = azsecretsfake.NewServerTransport(&azsecretsfake.Server{GetSecret: v.get})
	return v
}

func (v *vault) put(name string, value []byte) secret.Version {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	id := fmt.Sprintf("%032x", v.count)
	v.secrets[name] = append(v.secrets[name], version{id, string(value)})
	return secret.Version(id)
}

func (v *vault) get(_ context.Context, name, id string, _ *azsecrets.GetSecretOptions) (resp azfake.Responder[azsecrets.GetSecretResponse], errResp azfake.ErrorResponder) {
	v.mu.Lock()
	defer v.mu.Unlock()
	versions := v.secrets[name]
	for i, found := range versions {
		if found.id == id || id == "" && i == len(versions)-1 {
			full := azsecrets.ID("https://shop.vault.azure.net/secrets/" + name + "/" + found.id)
			resp.SetResponse(http.StatusOK, azsecrets.GetSecretResponse{Secret: azsecrets.Secret{ID: &full, Value: &found.value}}, nil)
			return resp, errResp
		}
	}
	errResp.SetResponseError(http.StatusNotFound, "SecretNotFound")
	return resp, errResp
}

// revoke makes the tokens given so far worthless.
func (v *vault) revoke() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens++
}

func (v *vault) token() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprint(providertest.Canary, v.tokens)
}

// ServeHTTP answers as Entra ID below /tenant/, and as the vault elsewhere.
func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch host := "https://" + r.Host; {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{
			"issuer": host + "/tenant/v2.0", "authorization_endpoint": host + "/tenant/authorize", "token_endpoint": host + "/tenant/token",
		})
	case strings.HasPrefix(r.URL.Path, "/tenant/"):
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("client_secret") != v.password {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":%q}`, providertest.Canary)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": v.token(), "expires_in": 3600, "token_type": "Bearer"})
	case r.Header.Get("Authorization") != "Bearer "+v.token():
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s/tenant", resource="https://vault.azure.net"`, host))
		w.WriteHeader(http.StatusUnauthorized)
	default:
		v.pass(w, r)
	}
}

// pass gives a request to the official fake and writes its answer.
func (v *vault) pass(w http.ResponseWriter, r *http.Request) {
	// The fake is made to stand in a client's place, where the method's name is known.
	resp, err := v.fake.Do(r.WithContext(context.WithValue(r.Context(), runtime.CtxAPINameKey{}, "Client.GetSecret")))
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		w.WriteHeader(refused.StatusCode)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, refused.ErrorCode, providertest.Canary)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	for key, values := range resp.Header {
		w.Header()[key] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func open(t *testing.T, v *vault, edit func(*azure.Config)) (*azure.Provider, *providertest.Proxy) {
	t.Helper()
	proxy := providertest.NewProxy(t, v)
	cfg := azure.Config{
		Vault: proxy.URL, Authority: proxy.URL, Timeout: time.Minute, TLS: rest.TLS{CAFile: proxy.CAFile},
		Login: azure.ClientSecret("tenant", "client", func() (secret.Value, error) { return secret.NewValue([]byte(providertest.Canary)), nil }),
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := azure.New("azure", cfg)
	assert.NilError(t, err)
	return p, proxy
}

// Key Vault holds text.
var options = providertest.Options{Path: "app-x", TextOnly: true}

func TestProvider_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		v := newVault()
		p, _ := open(t, v, nil)
		return p, v.put
	}, options)
}

func TestProvider_StandsAStoreThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		v := newVault()
		p, proxy := open(t, v, nil)
		// The vault refuses whoever shows a token that holds.
		proxy.Special(providertest.Denied, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+v.token() {
				proxy.Pass(w, r)
				return
			}
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"error":{"code":"Forbidden","message":%q}}`, providertest.Canary)
		})
		return providertest.Store{Provider: p, Put: v.put, Inject: proxy.Inject, Renew: func(*testing.T) { v.revoke() }}
	}, options)
}

func TestPath_MustBeAName(t *testing.T) {
	p, proxy := open(t, newVault(), nil)
	for _, path := range []string{"app/db", "a.b", "a_b", ""} {
		_, err := p.Version(t.Context(), path)
		assert.ErrorIs(t, err, provider.ErrPermanent)
		assert.ErrorContains(t, err, "letters, digits and - only")
	}
	assert.Equal(t, proxy.Requests(), 0)
}

func TestCredential_ThatIsWrongIsSaidSo(t *testing.T) {
	v := newVault()
	v.put("x", []byte("v"))
	v.password = "another"
	p, _ := open(t, v, nil)
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "provider azure: x: get a credential")
	assert.Assert(t, !strings.Contains(err.Error(), providertest.Canary), "%v", err)
}

func TestCredential_IsReadAgainWhenItIsReplaced(t *testing.T) {
	v := newVault()
	v.put("x", []byte("v"))
	p, _ := open(t, v, func(c *azure.Config) {
		c.Login = azure.ClientSecret("tenant", "client", func() (secret.Value, error) { return secret.NewValue([]byte(v.password)), nil })
	})
	for _, password := range []string{"one", "two"} {
		v.password = password
		v.revoke()
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
}

// A vault that asks for tokens of another place gets none.
func TestCredential_IsNotGivenToAVaultOfAnotherPlace(t *testing.T) {
	v := newVault()
	v.put("x", []byte("v"))
	p, _ := open(t, v, func(c *azure.Config) { c.Authority = "" })
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
}

func TestCredential_OfTheEnvironment(t *testing.T) {
	v := newVault()
	v.put("x", []byte("v"))
	for name, value := range map[string]string{"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": providertest.Canary} {
		t.Setenv(name, value)
	}
	p, _ := open(t, v, func(c *azure.Config) { c.Login = azure.Default("") })
	_, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
}
