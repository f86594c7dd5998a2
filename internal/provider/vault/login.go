package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Read returns a credential. It is called for each login, because whoever gave the
// credential may have replaced it.
type Read func() (secret.Value, error)

// Login gets a token. It is called by one goroutine at a time.
type Login func(ctx context.Context, c *conn) (grant, error)

// grant is a token with its life.
type grant struct {
	token     string
	ttl       time.Duration // zero: for ever
	renewable bool
}

// Token logs in with a token that exists. With wrapped, read gives a response-
// wrapping token, which is unwrapped once; the token in it is kept in memory.
func Token(read Read, wrapped bool) Login {
	token := reader(read, wrapped, func(a answer) string {
		if a.Auth != nil {
			return a.Auth.ClientToken
		}
		return textOf(a, "token")
	})
	return func(ctx context.Context, c *conn) (grant, error) {
		t, err := token(ctx, c)
		if err != nil {
			return grant{}, err
		}
		return lookup(ctx, c, t)
	}
}

// AppRole logs in with a role id and, unless secretID is nil, a secret id. With
// wrapped, secretID gives a response-wrapping token around it.
func AppRole(mount, roleID string, secretID Read, wrapped bool) Login {
	id := reader(secretID, wrapped, func(a answer) string { return textOf(a, "secret_id") })
	return func(ctx context.Context, c *conn) (grant, error) {
		params := map[string]string{"role_id": roleID}
		if secretID != nil {
			s, err := id(ctx, c)
			if err != nil {
				return grant{}, err
			}
			params["secret_id"] = s
		}
		return login(ctx, c, mount, params)
	}
}

// JWT logs in with a role and a signed token: the methods jwt and kubernetes.
func JWT(mount, role string, jwt Read) Login {
	read := reader(jwt, false, nil)
	return func(ctx context.Context, c *conn) (grant, error) {
		token, err := read(ctx, c)
		if err != nil {
			return grant{}, err
		}
		return login(ctx, c, mount, map[string]string{"role": role, "jwt": token})
	}
}

// Cert logs in with the client certificate of the connection.
func Cert(mount, name string) Login {
	return func(ctx context.Context, c *conn) (grant, error) {
		params := map[string]string{}
		if name != "" {
			params["name"] = name
		}
		return login(ctx, c, mount, params)
	}
}

// Unwrapped holds what was in a wrapping token, which can be asked for once: a provider
// that takes the place of another, at the same server, goes on with it.
type Unwrapped struct {
	mu    sync.Mutex // held while the server is asked: it answers one of two
	outer secret.Value
	inner string
}

// of returns what was in outer, and asks for it once.
func (u *Unwrapped) of(outer secret.Value, ask func() (string, error)) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.inner != "" && u.outer.Equal(outer) {
		return u.inner, nil
	}
	inner, err := ask()
	if err == nil {
		u.outer, u.inner = outer, inner
	}
	return inner, err
}

// reader reads a credential as text, and unwraps one that is wrapped when it is a
// new one.
func reader(read Read, wrapped bool, inner func(answer) string) func(context.Context, *conn) (string, error) {
	return func(ctx context.Context, c *conn) (string, error) {
		v, err := read()
		if err != nil {
			return "", fmt.Errorf("%w: %w", provider.ErrCredential, err)
		}
		if strings.ContainsFunc(string(v.Reveal()), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", fmt.Errorf("%w: it has a character that cannot be sent, such as a newline", provider.ErrCredential)
		}
		if !wrapped {
			return string(v.Reveal()), nil
		}
		return c.unwrapped.of(v, func() (string, error) {
			a, err := c.ask(ctx, string(v.Reveal()), http.MethodPost, "sys/wrapping/unwrap", map[string]string{})
			if err != nil {
				return "", refused(err, "unwrap the credential", "the wrapping token is spent, expired or none: give a new one")
			}
			unwrapped := inner(a)
			if unwrapped == "" {
				return "", fmt.Errorf("%w: what was wrapped is something else", provider.ErrCredential)
			}
			return unwrapped, nil
		})
	}
}

func textOf(a answer, key string) string {
	var data map[string]any
	if a.data(&data) != nil {
		return ""
	}
	s, _ := data[key].(string)
	return s
}

func login(ctx context.Context, c *conn, mount string, params map[string]string) (grant, error) {
	a, err := c.ask(ctx, "", http.MethodPost, "auth/"+strings.Trim(mount, "/")+"/login", params)
	if err != nil {
		return grant{}, refused(err, "log in at auth/"+mount, "the login at auth/"+mount+" is refused")
	}
	return a.grant()
}

func (a answer) grant() (grant, error) {
	if a.Auth == nil || a.Auth.ClientToken == "" {
		return grant{}, fmt.Errorf("%w: it grants no token", provider.ErrMalformed)
	}
	return grant{a.Auth.ClientToken, time.Duration(a.Auth.LeaseDuration) * time.Second, a.Auth.Renewable}, nil
}

// lookup asks how long a token lives.
func lookup(ctx context.Context, c *conn, token string) (grant, error) {
	a, err := c.ask(ctx, token, http.MethodGet, "auth/token/lookup-self", nil)
	if err != nil {
		return grant{}, refused(err, "look the token up", "the token is expired, revoked or none")
	}
	var d struct {
		TTL       int64 `json:"ttl"`
		Renewable bool  `json:"renewable"`
	}
	if err := a.data(&d); err != nil {
		return grant{}, err
	}
	return grant{token, time.Duration(d.TTL) * time.Second, d.Renewable}, nil
}

func renew(ctx context.Context, c *conn, token string) (grant, error) {
	a, err := c.ask(ctx, token, http.MethodPost, "auth/token/renew-self", map[string]string{})
	if err != nil {
		return grant{}, refused(err, "renew the token", "the token is not renewed")
	}
	return a.grant()
}

// refused says that a permanent error of a login is one of the credential. Vault
// answers a bad one with 400 as well as 403.
func refused(err error, operation, meaning string) error {
	if errors.Is(err, provider.ErrPermanent) || errors.Is(err, provider.ErrNotFound) {
		if errors.Is(err, rest.ErrElsewhere) || errors.Is(err, provider.ErrTooLarge) {
			return err
		}
		return fmt.Errorf("%w: %s", provider.ErrCredential, meaning)
	}
	return fmt.Errorf("%s: %w", operation, err)
}
