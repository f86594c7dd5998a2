package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// kvDatabase stands in a location for the database engine, which is no KV engine.
const kvDatabase = -1

// The paths of the database engine that hold credentials.
const (
	staticCreds  = "static-creds/"
	dynamicCreds = "creds/"
)

// readStatic reads the credentials of a static role: one account, whose password the
// server changes. Its version is when it did. The server tells how long the password
// still holds too, which is another number each time and no part of the value.
func (p *Provider) readStatic(ctx context.Context, token string, at location, want secret.Version) (secret.Value, secret.Version, error) {
	a, err := p.role(ctx, token, at)
	if err != nil {
		return secret.Value{}, "", err
	}
	var changed struct {
		At string `json:"last_vault_rotation"`
	}
	if err := a.data(&changed); err != nil {
		return secret.Value{}, "", err
	}
	v := secret.Version(changed.At)
	switch {
	case v == "":
		return secret.Value{}, "", fmt.Errorf("%w: it does not say when the password was changed", provider.ErrMalformed)
	case want != "" && want != v:
		return secret.Value{}, "", provider.ErrNoVersion
	}
	value, err := account(a)
	return value, v, err
}

// role reads what lies at a role's path. The engine answers 400 for a role that it does
// not know.
func (p *Provider) role(ctx context.Context, token string, at location) (answer, error) {
	a, err := p.session.conn.ask(ctx, token, http.MethodGet, at.mount+"/"+at.path, nil, http.StatusBadRequest)
	if err == nil && a.status == http.StatusBadRequest {
		err = fmt.Errorf("%w: the engine knows no such role", provider.ErrNotFound)
	}
	return a, err
}

// account returns what one logs in with, as a JSON object in one form.
func account(a answer) (secret.Value, error) {
	var c struct {
		Username string `json:"username"`
		Password string `json:"password,omitempty"`
		Key      string `json:"rsa_private_key,omitempty"`
		Cert     string `json:"client_certificate,omitempty"`
		CertKey  string `json:"private_key,omitempty"`
	}
	if err := a.data(&c); err != nil {
		return secret.Value{}, err
	}
	if c.Username == "" || c.Password+c.Key+c.CertKey == "" {
		return secret.Value{}, fmt.Errorf("%w: it holds no account", provider.ErrMalformed)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return secret.Value{}, errors.New("encode the account")
	}
	return secret.NewValue(text), nil
}

// readDatabase reads a path of the database engine.
func (p *Provider) readDatabase(ctx context.Context, token string, at location, path string, want secret.Version) (secret.Value, secret.Version, error) {
	switch {
	case strings.HasPrefix(at.path, staticCreds):
		return p.readStatic(ctx, token, at, want)
	case strings.HasPrefix(at.path, dynamicCreds):
		return p.readDynamic(ctx, token, at, path, want)
	}
	return secret.Value{}, "", fmt.Errorf("a path of the database engine at %s begins with creds/ or static-creds/ (%w)", at.mount, provider.ErrPermanent)
}

// versionDatabase is the version of a path of the database engine. Of a lease it is known
// without its value, and the server says whether the account is there still.
func (p *Provider) versionDatabase(ctx context.Context, token string, at location, path string) (secret.Version, error) {
	if !strings.HasPrefix(at.path, dynamicCreds) {
		_, v, err := p.readDatabase(ctx, token, at, path, "")
		return v, err
	}
	l, err := p.lease(ctx, token, at, path, true)
	if err != nil {
		return "", err
	}
	revoked, err := p.revoked(ctx, token, l)
	if err == nil && revoked {
		l, err = p.replaceLease(ctx, token, at, path, l.version())
	}
	if err != nil {
		return "", err
	}
	return l.version(), nil
}
