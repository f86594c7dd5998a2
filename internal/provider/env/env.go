package env

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Provider reads environment variables.
type Provider struct {
	name   string
	prefix string
	lookup func(string) (string, bool)
	fp     provider.Fingerprint
}

var _ provider.Provider = (*Provider)(nil)

// New returns a provider of the variables with the prefix. lookup is os.LookupEnv.
func New(name, prefix string, lookup func(string) (string, bool), fp provider.Fingerprint) *Provider {
	return &Provider{name, prefix, lookup, fp}
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	_, v, err := p.Get(ctx, path, "")
	return v, err
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	if err := ctx.Err(); err != nil {
		return secret.Value{}, "", provider.Explain(p.name, path, err)
	}
	variable := p.prefix + Variable(path)
	text, ok := p.lookup(variable)
	if !ok {
		return secret.Value{}, "", provider.Explain(p.name, path, fmt.Errorf("%w: the agent has no variable %s", provider.ErrNotFound, variable))
	}
	value, v, err := p.fp.Check([]byte(text), want)
	return value, v, provider.Explain(p.name, path, err)
}

// Variable returns the variable of a path, without the prefix: upper case, and an
// underscore for everything that is neither a letter nor a digit.
func Variable(path string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(path))
}
