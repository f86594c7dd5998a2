package aws_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/aws"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// keys are credentials that somebody may replace.
type keys struct {
	mu sync.Mutex
	id string
}

func (k *keys) set(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id = id
}

func (k *keys) read() (aws.Keys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return aws.Keys{ID: k.id, Secret: providertest.Canary}, nil
}

func open(t *testing.T, f *fake, service aws.Service, edit func(*aws.Config)) (*aws.Provider, *providertest.Proxy, *keys) {
	t.Helper()
	proxy := providertest.NewProxy(t, f)
	k := &keys{id: "AKIAFIRST"}
	cfg := aws.Config{
		Service: service, Region: "eu-central-1", Endpoint: proxy.URL, STSEndpoint: proxy.URL,
		Timeout: time.Minute, TLS: rest.TLS{CAFile: proxy.CAFile}, Keys: k.read,
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := aws.New("aws", cfg)
	assert.NilError(t, err)
	return p, proxy, k
}

// putSecret stores text as text and everything else as a binary secret.
func putSecret(f *fake) providertest.Put {
	return func(path string, value []byte) secret.Version {
		return secret.Version(f.put(path, value, !utf8.Valid(value)).id)
	}
}

func putParameter(f *fake) providertest.Put {
	return func(path string, value []byte) secret.Version {
		v := f.put("/"+path, value, false)
		at := time.Unix(v.at, 0).UTC()
		sum := sha256.Sum256([]byte(at.Format(time.RFC3339Nano)))
		f.mu.Lock()
		defer f.mu.Unlock()
		return secret.Version(fmt.Sprintf("%d-%x", len(f.secrets["/"+path]), sum[:3]))
	}
}

var services = map[aws.Service]func(*fake) providertest.Put{aws.SecretsManager: putSecret, aws.ParameterStore: putParameter}

func TestProvider_KeepsTheContract(t *testing.T) {
	for service, put := range services {
		t.Run(string(service), func(t *testing.T) {
			providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
				f := newFake()
				p, _, _ := open(t, f, service, nil)
				return p, put(f)
			}, providertest.Options{TextOnly: service == aws.ParameterStore})
		})
	}
}

// code is how AWS says most things: a code, under status 400.
func code(c string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(int(providertest.ThrottleFor.Seconds())))
		says(w, c)
	}
}

func TestProvider_StandsAStoreThatMisbehaves(t *testing.T) {
	for service, put := range services {
		for name, special := range map[string]map[providertest.Fault]http.HandlerFunc{
			"by code": {
				providertest.Denied: code("AccessDeniedException"), providertest.Expired: code("ExpiredTokenException"), providertest.Throttled: code("ThrottlingException"),
			},
			"by status": nil,
		} {
			t.Run(string(service)+" "+name, func(t *testing.T) {
				providertest.RunFaults(t, func(t *testing.T) providertest.Store {
					f := newFake()
					p, proxy, k := open(t, f, service, nil)
					for fault, h := range special {
						proxy.Special(fault, h)
					}
					n := 0
					return providertest.Store{
						Provider: p, Put: put(f), Inject: proxy.Inject,
						Renew: func(*testing.T) { // somebody writes the new key where the old one was
							n++
							k.set(fmt.Sprint("AKIA", n))
							f.accept(fmt.Sprint("AKIA", n))
						},
					}
				}, providertest.Options{})
			})
		}
	}
}

func TestSecretsManager_AVersionThatIsPendingIsNeverTaken(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.SecretsManager, nil)
	current := putSecret(f)("x", []byte("current"))
	pending := f.put("x", []byte("pending"), false, "AWSPENDING")
	v, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	assert.Equal(t, v, current)
	value, v, err := p.Get(t.Context(), "x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal())+string(v), "current"+string(current))
	_, _, err = p.Get(t.Context(), "x", secret.Version(pending.id))
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}

func TestSecretsManager_AComparisonCostsNoValue(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.SecretsManager, nil)
	putSecret(f)("x", []byte("v"))
	for range 5 {
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
	assert.Equal(t, f.count("GetSecretValue"), 0)
	assert.Equal(t, f.count("DescribeSecret"), 5)
}

func TestSecretsManager_NeedsNoRightToDescribe(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.SecretsManager, nil)
	want := putSecret(f)("x", []byte("v"))
	f.refuse("DescribeSecret", "AccessDeniedException")
	for range 3 {
		v, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
		assert.Equal(t, v, want)
	}
	assert.Equal(t, f.count("DescribeSecret"), 1)
}

func TestSecretsManager_ASecretThatIsBeingDeletedIsNone(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.SecretsManager, nil)
	putSecret(f)("x", []byte("v"))
	f.deleted["x"] = true
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	_, _, err = p.Get(t.Context(), "x", "")
	assert.ErrorIs(t, err, provider.ErrNotFound)
}

func TestParameterStore_ANameWithASlashBeginsWithOne(t *testing.T) {
	for _, c := range []struct{ prefix, path, name string }{
		{"", "db", "db"}, {"", "app/db", "/app/db"}, {"/", "db", "/db"}, {"/prod/", "app/db", "/prod/app/db"},
	} {
		f := newFake()
		p, _, _ := open(t, f, aws.ParameterStore, func(cfg *aws.Config) { cfg.Prefix = c.prefix })
		f.put(c.name, []byte("v"), false)
		_, err := p.Version(t.Context(), c.path)
		assert.NilError(t, err, c.name)
	}
}

// Numbers begin at 1 again; a version of before is another.
func TestParameterStore_AParameterThatWasMadeAnewHasOtherVersions(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.ParameterStore, nil)
	before := putParameter(f)("x", []byte("old"))
	delete(f.secrets, "/x")
	after := putParameter(f)("x", []byte("new"))
	f.secrets["x"] = f.secrets["/x"]
	v, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	assert.Equal(t, v, after)
	_, _, err = p.Get(t.Context(), "x", before)
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}

func TestRole_IsAssumedWithTheExternalID(t *testing.T) {
	f := newFake()
	f.external = "shop"
	role := func(external string) func(*aws.Config) {
		return func(c *aws.Config) { c.RoleARN, c.ExternalID = "arn:aws:iam::123456789012:role/dso", external }
	}
	putSecret(f)("x", []byte("v"))
	p, _, _ := open(t, f, aws.SecretsManager, role("shop"))
	for range 3 {
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
	assert.Equal(t, f.count("AssumeRole"), 1)
	f.accept("AKIAFIRST")
	p, _, _ = open(t, f, aws.SecretsManager, role("other"))
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "get a credential")
	assert.Assert(t, !strings.Contains(err.Error(), providertest.Canary), "%v", err)
}

// The default chain reads a file that somebody may replace while the agent runs.
func TestCredentials_OfTheSharedFileAreReadAgain(t *testing.T) {
	f := newFake()
	path := filepath.Join(t.TempDir(), "credentials")
	write := func(id string) {
		text := fmt.Sprintf("[shop]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, providertest.Canary)
		assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
		f.accept(id)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	write("AKIAONE")
	p, _, _ := open(t, f, aws.SecretsManager, func(c *aws.Config) { c.Keys, c.Profile = nil, "shop" })
	putSecret(f)("x", []byte("v"))
	for _, id := range []string{"AKIAONE", "AKIATWO", "AKIATHREE"} {
		write(id)
		_, err := p.Version(t.Context(), "x")
		assert.NilError(t, err)
	}
}

func TestCredentials_NoneIsSaidPlainly(t *testing.T) {
	f := newFake()
	p, proxy, _ := open(t, f, aws.SecretsManager, func(c *aws.Config) { c.Keys = nil })
	_, err := p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "provider aws: x: ")
	assert.ErrorContains(t, err, "the environment, ~/.aws and the instance give none")
	assert.Equal(t, proxy.Requests(), 0)
	p, _, _ = open(t, f, aws.SecretsManager, func(c *aws.Config) {
		c.Keys = func() (aws.Keys, error) { return aws.Keys{}, errors.New("read credential: no such file") }
	})
	_, err = p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrCredential)
	assert.ErrorContains(t, err, "no such file")
}

func TestCABundle_OfTheEnvironmentIsTrusted(t *testing.T) {
	f := newFake()
	putSecret(f)("x", []byte("v"))
	proxy := providertest.NewProxy(t, f)
	t.Setenv("AWS_CA_BUNDLE", proxy.CAFile)
	p, _, _ := open(t, f, aws.SecretsManager, func(c *aws.Config) { c.Endpoint, c.TLS = proxy.URL, rest.TLS{} })
	_, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
}

func TestNew_SaysWhatIsMissing(t *testing.T) {
	_, err := aws.New("aws", aws.Config{Service: aws.SecretsManager})
	assert.ErrorContains(t, err, "provider aws: no region")
	_, err = aws.New("aws", aws.Config{Region: "eu-central-1", Profile: "none"})
	assert.ErrorContains(t, err, "no such profile")
}
