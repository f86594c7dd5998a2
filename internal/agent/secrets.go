package agent

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/vault"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// The calls about secrets are the vault's; the agent adds who calls, and the
// codes of the API.

// Init makes the local vault unless there is one.
func (a *Agent) Init(context.Context) (wire.VaultInfo, error) {
	info, err := a.vault.Init()
	return info, vaultError(err)
}

// Set stores a new version of a secret. What uses it is rotated all the same,
// whether or not the caller waits for that.
func (a *Agent) Set(ctx context.Context, who api.Caller, req wire.SetRequest) (wire.VersionResponse, error) {
	resp, err := a.vault.Set(ctx, req, author(who))
	_ = a.noteSecret(ctx, audit.Set, wire.NameRequest{Name: req.Name, Project: req.Project}, resp.Version, err)
	return resp, vaultError(err)
}

// Get returns a value.
func (a *Agent) Get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	resp, err := a.vault.Get(ctx, req)
	if unrecorded := a.noteSecret(ctx, audit.Read, req, resp.Version, err); unrecorded != nil && err == nil {
		return wire.ValueResponse{}, errUnrecorded
	}
	return resp, vaultError(err)
}

// Fetch reads a secret from its store, whichever that is.
func (a *Agent) Fetch(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	id, err := secret.ParseName(req.Name, req.Project, a.resolver.Providers().Has)
	if err != nil {
		return wire.ValueResponse{}, vaultError(err)
	}
	p, err := a.resolver.Providers().Lookup(id.Provider)
	if err != nil {
		return wire.ValueResponse{}, err
	}
	value, version, err := p.Get(ctx, id.Path, secret.Version(req.Version))
	if err := a.noteID(ctx, audit.Read, id, string(version), err); err != nil {
		return wire.ValueResponse{}, errUnrecorded
	}
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrNoVersion) {
		return wire.ValueResponse{}, &api.Error{Code: wire.CodeNotFound, Err: err, Hint: missingHint(id)}
	}
	return wire.ValueResponse{Name: id.String(), Version: string(version), Value: value.Reveal()}, err
}

// List describes all secrets of the local vault.
func (a *Agent) List(ctx context.Context) ([]wire.SecretInfo, error) {
	rows, err := a.vault.List(ctx)
	return rows, vaultError(err)
}

// Delete removes a secret, unless a container uses it.
func (a *Agent) Delete(ctx context.Context, req wire.NameRequest) error {
	id, err := a.vault.ID(req.Name, req.Project)
	if err != nil {
		return vaultError(err)
	}
	if !req.Force {
		users, err := a.controller.Users(ctx, id)
		if err != nil {
			return fmt.Errorf("see who uses %s: %w", id.Path, err)
		}
		if len(users) > 0 {
			return &api.Error{
				Code: wire.CodeInUse, Err: fmt.Errorf("secret %s is used by %s", id.Path, strings.Join(users, ", ")),
				Hint: "their next start would be refused; --force deletes it all the same",
			}
		}
	}
	err = a.vault.Delete(ctx, req)
	_ = a.noteSecret(ctx, audit.Delete, req, "", err)
	return vaultError(err)
}

// History lists the versions of a secret.
func (a *Agent) History(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error) {
	rows, err := a.vault.History(ctx, req)
	return rows, vaultError(err)
}

// Rollback makes an older value current again, as a new version.
func (a *Agent) Rollback(ctx context.Context, who api.Caller, req wire.NameRequest) (wire.VersionResponse, error) {
	resp, err := a.vault.Rollback(ctx, req, author(who))
	_ = a.noteSecret(ctx, audit.Rollback, req, resp.Version, err)
	return resp, vaultError(err)
}

// author is the name of the caller's user, or its number.
func author(who api.Caller) string {
	uid := strconv.FormatUint(uint64(who.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// vaultError gives the vault's errors the codes of the API.
func vaultError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, localvault.ErrNoVault):
		return &api.Error{Code: wire.CodeNoVault, Err: err, Hint: "docker dso init makes one"}
	case errors.Is(err, localvault.ErrNotFound), errors.Is(err, localvault.ErrNoVersion):
		return &api.Error{Code: wire.CodeNotFound, Err: err, Hint: "docker dso secret list shows what there is"}
	case errors.Is(err, localvault.ErrEmpty):
		return &api.Error{Code: wire.CodeEmpty, Err: err, Hint: "--allow-empty stores it all the same"}
	case errors.Is(err, vault.ErrForeign):
		return &api.Error{Code: wire.CodeInvalid, Err: err, Hint: "change it in the store itself"}
	case errors.Is(err, localvault.ErrTooLarge), errors.Is(err, localvault.ErrBadName), errors.Is(err, secret.ErrBadRef):
		return &api.Error{Code: wire.CodeInvalid, Err: err}
	}
	return err
}
