package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config says where the vault is and who we are.
type Config struct {
	Vault string // its address
	Cloud string // public, china or government
	// Authority is what gives tokens in a cloud of one's own. What a vault there
	// wants tokens for is not checked against its address.
	Authority string
	Timeout   time.Duration
	TLS       rest.TLS
	Login     Login
}

// Provider reads the secrets of one vault.
type Provider struct {
	name string
	cfg  Config
	load func() (*azsecrets.Client, error)

	mu      sync.Mutex
	current *azsecrets.Client // nil: not loaded yet
}

var _ provider.Provider = (*Provider)(nil)

// New returns a provider. No server is asked yet.
func New(name string, cfg Config) (*Provider, error) {
	transport, err := rest.Transport(cfg.TLS)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	client := func(credential bool) *http.Client {
		return &http.Client{Transport: rest.Telling(rest.Replayable(transport), credential), CheckRedirect: rest.NoRedirect}
	}
	return &Provider{name: name, cfg: cfg, load: func() (*azsecrets.Client, error) { return open(cfg, client) }}, nil
}

// Version implements [provider.Provider]. It costs the value.
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	_, v, err := p.Get(ctx, path, "")
	return v, err
}

var (
	isName    = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	isVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (value secret.Value, v secret.Version, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	switch {
	case !isName.MatchString(path):
		err = fmt.Errorf("a secret's name in Key Vault has letters, digits and - only (%w)", provider.ErrPermanent)
	case want != "" && !isVersion.MatchString(string(want)):
		err = provider.ErrNoVersion
	default:
		value, v, err = p.get(ctx, path, want)
	}
	return value, v, provider.Explain(p.name, path, err)
}

// get asks, again with a credential that was got anew when the one before turns out to
// be no good.
func (p *Provider) get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	client, err := p.client(nil)
	if err != nil {
		return secret.Value{}, "", err
	}
	value, v, err := ask(ctx, client, path, want)
	if errors.Is(err, provider.ErrCredential) {
		if client, err = p.client(client); err == nil {
			value, v, err = ask(ctx, client, path, want)
		}
	}
	return value, v, err
}

func ask(ctx context.Context, client *azsecrets.Client, path string, want secret.Version) (secret.Value, secret.Version, error) {
	ctx, outcome := rest.WithOutcome(ctx)
	a, err := client.GetSecret(ctx, path, string(want), nil)
	err = outcome.Explain(ctx, err)
	switch {
	case errors.Is(err, provider.ErrNotFound) && want != "":
		return secret.Value{}, "", provider.ErrNoVersion
	case err != nil:
		return secret.Value{}, "", err
	case a.ID == nil || a.Value == nil || !isVersion.MatchString(a.ID.Version()) || want != "" && a.ID.Version() != string(want):
		return secret.Value{}, "", fmt.Errorf("%w: it is not the secret that was asked for", provider.ErrMalformed)
	case len(*a.Value) > provider.MaxValue:
		return secret.Value{}, "", fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	return secret.NewValue([]byte(*a.Value)), secret.Version(a.ID.Version()), nil
}

// client returns a client that is not the one that turned out to be no good.
func (p *Provider) client(bad *azsecrets.Client) (*azsecrets.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.current != bad {
		return p.current, nil
	}
	next, err := p.load()
	if err != nil {
		return nil, err
	}
	p.current = next
	return next, nil
}
