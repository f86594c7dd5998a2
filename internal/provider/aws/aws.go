package aws

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Service is the store that is read.
type Service string

// The services.
const (
	SecretsManager Service = "secretsmanager"
	ParameterStore Service = "ssm"
)

// Config says where the store is and who we are.
type Config struct {
	Service     Service
	Region      string // empty: what AWS_REGION or the shared configuration says
	Endpoint    string // empty: that of the region
	STSEndpoint string
	Prefix      string // before every path
	RoleARN     string // assumed when it is set
	ExternalID  string
	Profile     string // of the shared configuration; empty: AWS_PROFILE or default
	Timeout     time.Duration
	TLS         rest.TLS
	// Keys returns static credentials. Nil: the SDK's default chain.
	Keys func() (Keys, error)
}

// Keys are static credentials.
type Keys struct {
	ID, Secret, Session string
}

// store is one of the services, with the credentials of one load.
type store interface {
	version(ctx context.Context, path string) (secret.Version, error)
	read(ctx context.Context, path string, want secret.Version) ([]byte, secret.Version, error)
}

// Provider reads one service of one region.
type Provider struct {
	name  string
	cfg   Config
	load  func() (store, error)
	plain plain

	mu      sync.Mutex
	current store
}

var _ provider.Provider = (*Provider)(nil)

// New returns a provider. No server is asked yet.
func New(name string, cfg Config) (*Provider, error) {
	if cfg.TLS.CAFile == "" {
		cfg.TLS.CAFile = os.Getenv("AWS_CA_BUNDLE")
	}
	transport, err := rest.Transport(cfg.TLS)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	p := &Provider{name: name, cfg: cfg}
	p.load = func() (store, error) { return open(cfg, transport, &p.plain) }
	if p.current, err = p.load(); err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return p, nil
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (v secret.Version, err error) {
	err = p.with(ctx, path, func(ctx context.Context, s store) error {
		v, err = s.version(ctx, path)
		return err
	})
	return v, err
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	var value []byte
	var v secret.Version
	err := p.with(ctx, path, func(ctx context.Context, s store) (err error) {
		value, v, err = s.read(ctx, path, want)
		if err == nil && len(value) > provider.MaxValue {
			err = fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
		}
		return err
	})
	if err != nil {
		return secret.Value{}, "", err
	}
	return secret.NewValue(value), v, nil
}

// with calls work, again with credentials that were read anew when those before turn
// out to be no good.
func (p *Provider) with(ctx context.Context, path string, work func(context.Context, store) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	p.mu.Lock()
	s := p.current
	p.mu.Unlock()
	err := work(ctx, s)
	if errors.Is(err, provider.ErrCredential) {
		var next store
		if next, err = p.renewed(s); err == nil {
			err = work(ctx, next)
		}
	}
	return provider.Explain(p.name, path, err)
}

// renewed returns a store with other credentials than those of old.
func (p *Provider) renewed(old store) (store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != old {
		return p.current, nil // somebody else was here
	}
	next, err := p.load()
	if err != nil {
		return nil, err
	}
	p.current = next
	return next, nil
}

// plain remembers the paths whose value may be read and whose description may not.
type plain struct{ paths sync.Map }

func (p *plain) has(path string) bool { _, ok := p.paths.Load(path); return ok }
func (p *plain) add(path string)      { p.paths.Store(path, true) }
