package cli

import (
	"context"
	"errors"
	"net/http"
	"os/user"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/vault"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// secrets is the local vault: through the agent when one runs, so that its user's
// vault is the one; otherwise the caller's own, directly.
type secrets struct {
	agent *client.Client
	own   vault.Service
}

func (a *app) secrets() (secrets, error) {
	dir, err := localvault.DefaultDir()
	return secrets{
		agent: a.agent(),
		own:   vault.Service{Dir: dir, IsProvider: func(p string) bool { return p == secret.DefaultProvider }},
	}, err
}

// call asks the agent, and does it directly when there is none.
func call[T any](ctx context.Context, s secrets, method, path string, req any, direct func() (T, error)) (T, error) {
	var resp T
	err := s.agent.Call(ctx, method, path, req, &resp)
	if errors.Is(err, client.ErrNoAgent) {
		return direct()
	}
	return resp, err
}

func (s secrets) init(ctx context.Context) (wire.VaultInfo, error) {
	return call(ctx, s, http.MethodPost, "/v1/vault", nil, s.own.Init)
}

func (s secrets) set(ctx context.Context, req wire.SetRequest) (wire.VersionResponse, error) {
	return call(ctx, s, http.MethodPut, "/v1/secret", req, func() (wire.VersionResponse, error) { return s.own.Set(ctx, req, me()) })
}

func (s secrets) get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/get", req, func() (wire.ValueResponse, error) { return s.own.Get(ctx, req) })
}

func (s secrets) list(ctx context.Context) ([]wire.SecretInfo, error) {
	return call(ctx, s, http.MethodGet, "/v1/secrets", nil, func() ([]wire.SecretInfo, error) { return s.own.List(ctx) })
}

func (s secrets) delete(ctx context.Context, req wire.NameRequest) error {
	_, err := call(ctx, s, http.MethodPost, "/v1/secret/delete", req, func() (struct{}, error) { return struct{}{}, s.own.Delete(ctx, req) })
	return err
}

func (s secrets) history(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/history", req, func() ([]wire.SecretVersion, error) { return s.own.History(ctx, req) })
}

func (s secrets) rollback(ctx context.Context, req wire.NameRequest) (wire.VersionResponse, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/rollback", req, func() (wire.VersionResponse, error) { return s.own.Rollback(ctx, req, me()) })
}

func me() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
