package local

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Provider reads the vault in one directory. It is safe for concurrent use.
type Provider struct {
	dir string

	mu    sync.Mutex
	vault *localvault.Vault // nil until it could be opened
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Watcher  = (*Provider)(nil)
)

// New returns a provider of the vault in dir, which need not exist yet.
func New(dir string) *Provider { return &Provider{dir: dir} }

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	v, err := p.open(ctx)
	if err != nil {
		return "", explain(path, err)
	}
	ver, err := v.Version(ctx, path)
	return ver, explain(path, p.classify(err))
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, ver secret.Version) (secret.Value, secret.Version, error) {
	v, err := p.open(ctx)
	if err != nil {
		return secret.Value{}, "", explain(path, err)
	}
	value, ver, err := v.Get(ctx, path, ver)
	return value, ver, explain(path, p.classify(err))
}

// Watch tells when any secret changed, as [localvault.Vault.Watch] does. It
// fails while there is no vault; the caller tries again or polls.
func (p *Provider) Watch(ctx context.Context) (<-chan struct{}, error) {
	v, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	changed, err := v.Watch(ctx)
	return changed, p.classify(err)
}

func explain(path string, err error) error {
	return provider.Explain(secret.DefaultProvider, path, err)
}

func (p *Provider) open(ctx context.Context) (*localvault.Vault, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("local vault: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.vault != nil {
		return p.vault, nil
	}
	v, err := localvault.Open(p.dir)
	if errors.Is(err, localvault.ErrNoVault) {
		return nil, fmt.Errorf("%w: run \"docker dso init\" (%w)", err, provider.ErrPermanent)
	}
	if err != nil {
		return nil, p.classify(err)
	}
	p.vault = v
	return v, nil
}

// classify adds the contract's sentinel to an error of the vault. An error that
// a replaced key explains makes the next call open the vault afresh.
func (p *Provider) classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, localvault.ErrNotFound):
		return fmt.Errorf("local vault: %w (%w)", err, provider.ErrNotFound)
	case errors.Is(err, localvault.ErrNoVersion):
		return fmt.Errorf("local vault: %w (%w)", err, provider.ErrNoVersion)
	}
	if errors.Is(err, localvault.ErrWrongKey) || errors.Is(err, localvault.ErrNoVault) {
		p.mu.Lock()
		p.vault = nil
		p.mu.Unlock()
	}
	for _, permanent := range []error{
		localvault.ErrBadName, localvault.ErrDamaged, localvault.ErrMode,
		localvault.ErrNewer, localvault.ErrNoKey, localvault.ErrNoVault, localvault.ErrWrongKey,
	} {
		if errors.Is(err, permanent) {
			return fmt.Errorf("local vault: %w (%w)", err, provider.ErrPermanent)
		}
	}
	return fmt.Errorf("local vault: %w", err)
}
