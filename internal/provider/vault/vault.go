package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config says where the server is and how to log in.
type Config struct {
	Address   string
	Namespace string
	Mount     string // empty: paths begin with their mount
	KVVersion int    // 0: the server is asked
	Timeout   time.Duration
	TLS       rest.TLS
	Login     Login
	Memory    Memory // nil: no lease outlives the provider
	// Resume names what Login logs in as, without its credential. The token that it gets
	// is kept with the leases that die with it, and the next provider of the same name
	// goes on with it. Empty: it is not kept.
	Resume string
	// Unwrapped is what the provider before had in a wrapping token; nil: there was none.
	Unwrapped *Unwrapped
}

// Provider reads the KV and database engines of one server.
type Provider struct {
	name    string
	session *session
	mounts  *mounts
	leases  *leases
	fp      provider.Fingerprint
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Keeper   = (*Provider)(nil)
	_ provider.Watcher  = (*Provider)(nil)
)

// New returns a provider. The server is not asked yet.
func New(name string, cfg Config, fp provider.Fingerprint) (*Provider, error) {
	c, err := newConn(cfg)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	server := cfg.Address + " " + cfg.Namespace + " " + cfg.Mount
	leases := newLeases(cfg.Memory, server, cfg.Resume, time.Now())
	return &Provider{
		name: name, session: newSession(c, resuming(leases, cfg.Login)), mounts: newMounts(cfg.Mount, cfg.KVVersion), leases: leases, fp: fp,
	}, nil
}

// Keep implements [provider.Keeper]: a token and the leases are renewed also while
// nobody uses them.
func (p *Provider) Keep(ctx context.Context) {
	const afterError, afterRefusal = 10 * time.Second, time.Minute
	for ctx.Err() == nil {
		wait := afterError
		switch _, err := p.session.token(ctx); {
		case err == nil:
			wait = min(p.keepLease(ctx), p.session.next(ctx))
		case !provider.Retryable(err):
			wait = afterRefusal // servers lock out who tries in vain too often
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.leases.changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// Watch implements [provider.Watcher]: it tells when a lease was replaced. What changes
// in the server by itself is not told.
func (p *Provider) Watch(ctx context.Context) (<-chan struct{}, error) {
	return provider.Relay(ctx, p.leases.replaced), nil
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (v secret.Version, err error) {
	err = p.with(ctx, path, func(token string, at location) error {
		switch at.kv {
		case kvDatabase:
			v, err = p.versionDatabase(ctx, token, at, path)
		case 1:
			_, v, err = p.readV1(ctx, token, at, "")
		default:
			v, err = p.versionV2(ctx, token, at)
		}
		return err
	})
	return v, err
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (value secret.Value, v secret.Version, err error) {
	err = p.with(ctx, path, func(token string, at location) error {
		switch at.kv {
		case kvDatabase:
			value, v, err = p.readDatabase(ctx, token, at, path, want)
		case 1:
			value, v, err = p.readV1(ctx, token, at, want)
		default:
			value, v, err = p.readV2(ctx, token, at, want)
		}
		return err
	})
	if err != nil {
		return secret.Value{}, "", err
	}
	return value, v, nil
}

// with calls work with a token and the place of the path, again with a new token
// when the one before turns out to be no good.
func (p *Provider) with(ctx context.Context, path string, work func(token string, at location) error) error {
	return provider.Explain(p.name, path, func() error {
		for second := false; ; second = true {
			token, err := p.session.token(ctx)
			if err != nil {
				return err
			}
			at, err := p.mounts.locate(ctx, p.session.conn, token, path)
			if err == nil {
				err = work(token, at)
			}
			if err == nil || second || !errors.Is(err, provider.ErrDenied) && !errors.Is(err, provider.ErrCredential) {
				return err
			}
			if err := p.session.rejected(ctx, token, err); err != nil {
				return err
			}
		}
	}())
}

func (p *Provider) readV1(ctx context.Context, token string, at location, want secret.Version) (secret.Value, secret.Version, error) {
	a, err := p.session.conn.ask(ctx, token, http.MethodGet, at.mount+"/"+at.path, nil)
	if err != nil {
		return secret.Value{}, "", err
	}
	value, err := object(a.Data)
	if err != nil {
		return secret.Value{}, "", err
	}
	return p.fp.Check(value, want)
}

// object returns a JSON object in one form, whatever the server's spacing.
func object(data json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil || b.Len() == 0 || b.Bytes()[0] != '{' {
		return nil, fmt.Errorf("%w: it holds no secret", provider.ErrMalformed)
	}
	if b.Len() > provider.MaxValue {
		return nil, fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	return b.Bytes(), nil
}
