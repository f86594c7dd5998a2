package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/aws"
	"github.com/docker-secret-operator/dso/internal/provider/azure"
	"github.com/docker-secret-operator/dso/internal/provider/env"
	"github.com/docker-secret-operator/dso/internal/provider/exec"
	"github.com/docker-secret-operator/dso/internal/provider/file"
	"github.com/docker-secret-operator/dso/internal/provider/gcp"
	httpprovider "github.com/docker-secret-operator/dso/internal/provider/http"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/provider/vault"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/watch"
)

// build makes the provider that the configuration describes. It asks no store.
func build(name string, p config.Provider, fp provider.Fingerprint, memory memory) (provider.Provider, error) {
	switch c := p.Config.(type) {
	case *config.AWS:
		return aws.New(name, awsConfig(p, c))
	case *config.Azure:
		login, err := azureLogin(p.Auth.Params, p.Auth.Method)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		return azure.New(name, azure.Config{Vault: c.Vault, Cloud: c.Cloud, Authority: c.Authority, Timeout: c.Timeout, TLS: tlsOf(c.TLS), Login: login})
	case *config.GCP:
		cfg := gcp.Config{Project: c.Project, Location: p.Region, Endpoint: c.Endpoint, Timeout: c.Timeout, TLS: tlsOf(c.TLS)}
		if a, ok := p.Auth.Params.(*config.GCPCredentials); ok {
			cfg.Credentials = a.Credentials.Read
		}
		return gcp.New(name, cfg)
	case *config.File:
		return file.New(name, c.Dir, fp), nil
	case *config.Env:
		return env.New(name, c.Prefix, os.LookupEnv, fp), nil
	case *config.Exec:
		return exec.New(name, exec.Config{Program: c.Program, Args: c.Args, SHA256: c.SHA256, Timeout: c.Timeout, Env: environment(c.Env)})
	case *config.HTTP:
		return httpprovider.New(name, httpprovider.Config{
			URL: c.URL, Value: c.Value, Version: c.Version, Base64: c.Encoding == "base64",
			Timeout: c.Timeout, TLS: tlsOf(c.TLS), Headers: headers(c.Headers, p.Auth.Params),
		}, fp)
	case *config.Vault:
		kv, _ := strconv.Atoi(c.KVVersion) // "auto" is 0
		login, resume, err := vaultLogin(p.Auth.Params)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		return vault.New(name, vault.Config{
			Address: c.Address, Namespace: c.Namespace, Mount: c.Mount, KVVersion: kv,
			Timeout: c.Timeout, TLS: tlsOf(c.TLS), Login: login, Memory: memory, Resume: resume, Unwrapped: memory.unwrapped,
		}, fp)
	}
	return nil, fmt.Errorf("provider %s: no provider is made of type %q", name, p.Type)
}

func awsConfig(p config.Provider, c *config.AWS) aws.Config {
	cfg := aws.Config{
		Service: aws.Service(c.Service), Region: p.Region, Endpoint: c.Endpoint, STSEndpoint: c.STSEndpoint, Prefix: c.Prefix,
		RoleARN: c.RoleARN, ExternalID: c.ExternalID, Timeout: c.Timeout, TLS: tlsOf(c.TLS),
	}
	switch a := p.Auth.Params.(type) {
	case *config.AWSDefault:
		cfg.Profile = a.Profile
	case *config.AWSStatic:
		cfg.Keys = func() (aws.Keys, error) {
			key, err := a.SecretAccessKey.Read()
			if err != nil {
				return aws.Keys{}, err
			}
			var session secret.Value
			if a.SessionToken.IsSet() {
				session, err = a.SessionToken.Read()
			}
			return aws.Keys{ID: a.AccessKeyID, Secret: string(key.Reveal()), Session: string(session.Reveal())}, err
		}
	}
	return cfg
}

func azureLogin(auth any, method string) (azure.Login, error) {
	switch a := auth.(type) {
	case *config.AzureIdentity:
		if method == "managed_identity" {
			return azure.ManagedIdentity(a.ClientID), nil
		}
		return azure.Default(a.ClientID), nil
	case *config.AzureClientSecret:
		return azure.ClientSecret(a.TenantID, a.ClientID, a.ClientSecret.Read), nil
	case *config.AzureWorkload:
		return azure.WorkloadIdentity(a.TenantID, a.ClientID, a.TokenFile), nil
	}
	return nil, fmt.Errorf("no login is made of %T", auth)
}

// memory is what a provider remembers beyond the agent's life: a file, the sealed
// values, and a token beside them.
type memory struct {
	provider string
	file     string // empty: none
	sealed   resolve.Sealed
	notes    notes // nil: none are kept

	unwrapped *vault.Unwrapped // in memory only, from one provider of the name to the next
}

// notes are what the agent keeps sealed for itself.
type notes interface {
	Note(of string, data []byte) error
	Noted(of string) (secret.Value, error)
}

func (m memory) tokenNote() string { return "lease-token/" + m.provider }

func (m memory) Token() (secret.Value, error) {
	if m.notes == nil {
		return secret.Value{}, provider.ErrNotFound
	}
	return m.notes.Noted(m.tokenNote())
}

func (m memory) KeepToken(token secret.Value) error {
	if m.notes == nil {
		return provider.ErrNotFound
	}
	return m.notes.Note(m.tokenNote(), token.Reveal())
}

func (m memory) Load() ([]byte, error) {
	if m.file == "" {
		return nil, nil
	}
	return durable.Read(m.file)
}

func (m memory) Save(data []byte) error {
	if m.file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(m.file), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(m.file, data, 0o600)
}

func (m memory) Recall(path string, v secret.Version) (secret.Value, error) {
	if m.sealed == nil {
		return secret.Value{}, provider.ErrNoVersion
	}
	return m.sealed.Get(secret.ID{Provider: m.provider, Path: path}, v)
}

func tlsOf(t config.TLS) rest.TLS {
	return rest.TLS{CAFile: t.CAFile, ServerName: t.ServerName, CertFile: t.CertFile, KeyFile: t.KeyFile}
}

// environment returns all that a program sees.
func environment(listed map[string]config.Credential) func() ([]string, error) {
	return func() ([]string, error) {
		env := []string{}
		for name, c := range listed {
			v, err := c.Read()
			if err != nil {
				return nil, err
			}
			env = append(env, name+"="+string(v.Reveal()))
		}
		return env, nil
	}
}

// headers returns what goes with every request to an HTTP endpoint.
func headers(extra map[string]config.Credential, auth any) func() (http.Header, error) {
	return func() (http.Header, error) {
		h := http.Header{}
		set := func(key, before string, c config.Credential) error {
			v, err := c.Read()
			if err == nil {
				h.Set(key, before+string(v.Reveal()))
			}
			return err
		}
		var errs []error
		for key, c := range extra {
			errs = append(errs, set(key, "", c))
		}
		switch a := auth.(type) {
		case *config.Bearer:
			errs = append(errs, set("Authorization", "Bearer ", a.Token))
		case *config.Header:
			errs = append(errs, set(a.Name, "", a.Value))
		case *config.Basic:
			v, err := a.Password.Read()
			r := http.Request{Header: h}
			r.SetBasicAuth(a.Username, string(v.Reveal()))
			errs = append(errs, err)
		}
		return h, errors.Join(errs...)
	}
}

// vaultLogin also returns what the login is for, without its credential, when it gets
// another token each time.
func vaultLogin(auth any) (login vault.Login, resume string, err error) {
	switch a := auth.(type) {
	case *config.Token:
		return vault.Token(a.Token.Read, a.Wrapped), "", nil
	case *config.AppRole:
		var id vault.Read
		if a.SecretID.IsSet() {
			id = a.SecretID.Read
		}
		return vault.AppRole(a.Mount, a.RoleID, id, a.SecretIDWrapped), "approle " + a.Mount + " " + a.RoleID, nil
	case *config.JWT:
		return vault.JWT(a.Mount, a.Role, a.JWT.Read), "jwt " + a.Mount + " " + a.Role, nil
	case *config.Kubernetes:
		return vault.JWT(a.Mount, a.Role, a.JWT.Read), "kubernetes " + a.Mount + " " + a.Role, nil
	case *config.Cert:
		return vault.Cert(a.Mount, a.Name), "cert " + a.Mount + " " + a.Name, nil
	}
	return nil, "", fmt.Errorf("no login is made of %T", auth)
}

// providerRow is what status says of a provider.
func providerRow(st watch.SourceStatus) wire.ProviderStatus {
	row := wire.ProviderStatus{
		Name: st.Name, Status: "ok", Secrets: st.Secrets, LastSuccess: st.Good.UTC(),
		Calls:   wire.ProviderCalls{Version: st.Calls.Version, Value: st.Calls.Value, Failed: st.Calls.Answers["error"]},
		Circuit: wire.Circuit{State: "closed", Failures: st.Failed},
	}
	if st.Good.IsZero() {
		row.LastSuccess = time.Time{}
	}
	if st.Secrets > 0 {
		row.Interval = &wire.PollInterval{Shortest: st.Shortest.String(), Longest: st.Longest.String()}
	}
	if st.Budget > 0 {
		row.Budget = &wire.CallBudget{PerMinute: st.Budget, Left: st.Left}
		if st.Late > time.Second && !st.Open {
			row.Budget.Late = st.Late.Round(time.Second).String()
		}
	}
	switch {
	case st.Err != nil:
		row.Status, row.Message = "error", strings.TrimPrefix(st.Err.Error(), "provider "+st.Name+": ") // the row names it
	case st.Asked.IsZero():
		row.Message = "not asked yet"
	}
	if st.Open {
		row.Status = "error"
		row.Circuit = wire.Circuit{State: "open", Failures: st.Failed, Since: st.Since.UTC(), NextTry: st.Next.UTC()}
	}
	return row
}

// providerMetrics are what metrics say of the providers.
func providerMetrics(rows []watch.SourceStatus) []metrics.Provider {
	out := make([]metrics.Provider, len(rows))
	for i, st := range rows {
		out[i] = metrics.Provider{
			Name: st.Name, Version: st.Calls.Version, Value: st.Calls.Value, Answers: st.Calls.Answers, Failures: st.Calls.Failures,
			Open: st.Open, Secrets: st.Secrets, Interval: st.Longest, Good: st.Good,
		}
	}
	return out
}

// fingerprintKey returns the key of the versions that DSO makes itself, and makes it
// at the first start. With another key all of them are other versions: the secrets of
// stores that have none of their own count as changed, once. So there are two copies
// of it. With a [*durable.CorruptError], the key is usable.
func fingerprintKey(path string, now time.Time) ([]byte, error) {
	const size = 32
	var key []byte
	err := durable.LoadState(path, now, func(data []byte) error {
		if len(data) != size {
			return fmt.Errorf("it has %d bytes and not %d", len(data), size)
		}
		key = data
		return nil
	})
	var corrupt *durable.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	if key == nil {
		key = make([]byte, size)
		_, _ = rand.Read(key) // never fails
	} else if err == nil {
		return key, nil
	}
	return key, errors.Join(durable.SaveState(path, key), durable.SaveState(path, key), err)
}
