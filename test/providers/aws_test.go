package providers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	smithytime "github.com/aws/smithy-go/time"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/aws"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// openAWS returns a provider of secrets below a prefix that no other test has.
func openAWS(t *testing.T, cfg aws.Config) *aws.Provider {
	t.Helper()
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	cfg.Region, cfg.STSEndpoint, cfg.Timeout = "us-east-1", cfg.Endpoint, time.Minute
	cfg.Keys = func() (aws.Keys, error) { return aws.Keys{ID: "AKIATEST", Secret: providertest.Canary}, nil }
	p, err := aws.New("aws", cfg)
	assert.NilError(t, err)
	return p
}

// putSecret stores text as text and everything else as a binary secret.
func (k *kumo) putSecret(t *testing.T, prefix string) providertest.Put {
	return func(path string, value []byte) secret.Version {
		body := o{"Name": prefix + path, "SecretId": prefix + path, "SecretString": string(value)}
		if !utf8.Valid(value) {
			delete(body, "SecretString")
			body["SecretBinary"] = value
		}
		out, err := k.try("secretsmanager.PutSecretValue", body)
		if err != nil { // there is none yet
			out = k.do(t, "secretsmanager.CreateSecret", body)
		}
		return secret.Version(at(out, "VersionId").(string))
	}
}

func (k *kumo) putParameter(t *testing.T, prefix string) providertest.Put {
	return func(path string, value []byte) secret.Version {
		n := at(k.do(t, "AmazonSSM.PutParameter", o{"Name": prefix + path, "Value": string(value), "Type": "SecureString", "Overwrite": true}), "Version")
		written := at(k.do(t, "AmazonSSM.GetParameter", o{"Name": prefix + path}), "Parameter", "LastModifiedDate").(float64)
		sum := sha256.Sum256([]byte(smithytime.ParseEpochSeconds(written).Format(time.RFC3339Nano)))
		return secret.Version(fmt.Sprintf("%v-%x", n, sum[:3]))
	}
}

// The emulator has no empty secret, as AWS has none, and of a parameter the current
// version only.
var awsStores = map[aws.Service]struct {
	put  func(*kumo, *testing.T, string) providertest.Put
	opts providertest.Options
}{
	aws.SecretsManager: {(*kumo).putSecret, providertest.Options{NoEmpty: true}},
	aws.ParameterStore: {(*kumo).putParameter, providertest.Options{NoEmpty: true, TextOnly: true, NoHistory: true}},
}

func TestAWS_KeepsTheContract(t *testing.T) {
	k := emulator(t)
	for service, c := range awsStores {
		t.Run(string(service), func(t *testing.T) {
			providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
				prefix := "/" + t.Name() + "/"
				return openAWS(t, aws.Config{Service: service, Endpoint: k.addr, Prefix: prefix}), c.put(k, t, prefix)
			}, c.opts)
		})
	}
}

func TestAWS_StandsAStoreThatMisbehaves(t *testing.T) {
	k := emulator(t)
	for service, c := range awsStores {
		t.Run(string(service), func(t *testing.T) {
			providertest.RunFaults(t, func(t *testing.T) providertest.Store {
				prefix := "/" + t.Name() + "/"
				proxy := providertest.NewProxy(t, k.addr)
				return providertest.Store{
					Provider: openAWS(t, aws.Config{Service: service, Endpoint: proxy.URL, Prefix: prefix, TLS: rest.TLS{CAFile: proxy.CAFile}}),
					Put:      c.put(k, t, prefix), Inject: proxy.Inject,
				}
			}, c.opts)
		})
	}
}

// More than one call takes, of which one is missing.
func TestAWS_ManyAtOnceAreEachTheirOwn(t *testing.T) {
	k := emulator(t)
	for service, c := range awsStores {
		t.Run(string(service), func(t *testing.T) {
			prefix := "/" + t.Name() + "/"
			put, p := c.put(k, t, prefix), openAWS(t, aws.Config{Service: service, Endpoint: k.addr, Prefix: prefix})
			want := map[string]secret.Version{}
			for i := range 50 {
				path := fmt.Sprintf("s%d", i)
				want[path] = put(path, []byte("value of "+path))
			}
			var all sync.WaitGroup
			for path, version := range want {
				all.Go(func() {
					value, v, err := p.Get(t.Context(), path, "")
					assert.Check(t, err)
					assert.Check(t, string(value.Reveal()) == "value of "+path && v == version, path)
				})
			}
			all.Go(func() {
				_, _, err := p.Get(t.Context(), "missing", "")
				assert.Check(t, errors.Is(err, provider.ErrNotFound), "%v", err)
			})
			all.Wait()
		})
	}
}

func TestAWS_AVersionThatWasCurrentCanBeRead(t *testing.T) {
	k := emulator(t)
	put := k.putSecret(t, "")
	first := put(t.Name(), []byte("first"))
	put(t.Name(), []byte("second"))
	p := openAWS(t, aws.Config{Service: aws.SecretsManager, Endpoint: k.addr})
	value, v, err := p.Get(t.Context(), t.Name(), first)
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal())+string(v), "first"+string(first))
}

func TestAWS_ARoleIsAssumed(t *testing.T) {
	k := emulator(t)
	want := k.putSecret(t, "")(t.Name(), []byte("v"))
	p := openAWS(t, aws.Config{Service: aws.SecretsManager, Endpoint: k.addr, RoleARN: "arn:aws:iam::123456789012:role/dso", ExternalID: "shop"})
	v, err := p.Version(t.Context(), t.Name())
	assert.NilError(t, err)
	assert.Equal(t, v, want)
}
