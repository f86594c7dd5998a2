package agent

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Init makes the local vault unless there is one.
func (a *Agent) Init(context.Context) (wire.VaultInfo, error) {
	v, created, err := localvault.Init(a.vaultDir)
	if err != nil {
		return wire.VaultInfo{}, vaultError(err)
	}
	return wire.VaultInfo{Dir: v.Dir(), Created: created}, nil
}

// vault opens the local vault and says which of its secrets a name means.
func (a *Agent) vault(name, project string) (*localvault.Vault, secret.ID, error) {
	id, err := secret.ParseName(name, project, a.resolver.Providers().Has)
	if err != nil {
		return nil, id, &api.Error{Code: wire.CodeInvalid, Err: err}
	}
	if id.Provider != secret.DefaultProvider {
		return nil, id, &api.Error{Code: wire.CodeInvalid, Err: fmt.Errorf("secret %s lies in provider %s, which DSO only reads", id.Path, id.Provider),
			Hint: "change it in the store itself"}
	}
	v, err := localvault.Open(a.vaultDir)
	return v, id, vaultError(err)
}

// Set stores a new version of a secret. What uses it is rotated all the same,
// whether or not the caller waits for that.
func (a *Agent) Set(ctx context.Context, who api.Caller, req wire.SetRequest) (wire.VersionResponse, error) {
	v, id, err := a.vault(req.Name, req.Project)
	if err != nil {
		return wire.VersionResponse{}, err
	}
	ver, changed, err := v.Set(ctx, id.Path, secret.NewValue(req.Value), localvault.SetOptions{AllowEmpty: req.AllowEmpty, Author: author(who)})
	return wire.VersionResponse{Name: id.Path, Version: string(ver), Changed: changed}, vaultError(err)
}

// author is the name of the caller's user, or its number.
func author(who api.Caller) string {
	uid := strconv.FormatUint(uint64(who.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// Get returns a value.
func (a *Agent) Get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	v, id, err := a.vault(req.Name, req.Project)
	if err != nil {
		return wire.ValueResponse{}, err
	}
	value, ver, err := v.Get(ctx, id.Path, secret.Version(req.Version))
	return wire.ValueResponse{Name: id.Path, Version: string(ver), Value: value.Reveal()}, vaultError(err)
}

// List describes all secrets of the local vault.
func (a *Agent) List(ctx context.Context) ([]wire.SecretInfo, error) {
	v, err := localvault.Open(a.vaultDir)
	if err != nil {
		return nil, vaultError(err)
	}
	infos, err := v.List(ctx)
	return wireInfos(infos), vaultError(err)
}

// Delete removes a secret, unless a container uses it.
func (a *Agent) Delete(ctx context.Context, req wire.NameRequest) error {
	v, id, err := a.vault(req.Name, req.Project)
	if err != nil {
		return err
	}
	if !req.Force {
		users, err := a.controller.Users(ctx, id)
		if err != nil {
			return fmt.Errorf("see who uses %s: %w", id.Path, err)
		}
		if len(users) > 0 {
			return &api.Error{Code: wire.CodeInUse, Err: fmt.Errorf("secret %s is used by %s", id.Path, strings.Join(users, ", ")),
				Hint: "their next start would be refused; --force deletes it all the same"}
		}
	}
	return vaultError(v.Delete(ctx, id.Path))
}

// History lists the versions of a secret.
func (a *Agent) History(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error) {
	v, id, err := a.vault(req.Name, req.Project)
	if err != nil {
		return nil, err
	}
	entries, err := v.History(ctx, id.Path)
	return wireVersions(entries), vaultError(err)
}

// Rollback makes an older value current again, as a new version.
func (a *Agent) Rollback(ctx context.Context, who api.Caller, req wire.NameRequest) (wire.VersionResponse, error) {
	v, id, err := a.vault(req.Name, req.Project)
	if err != nil {
		return wire.VersionResponse{}, err
	}
	ver, changed, err := v.Rollback(ctx, id.Path, secret.Version(req.Version), localvault.SetOptions{Author: author(who)})
	return wire.VersionResponse{Name: id.Path, Version: string(ver), Changed: changed}, vaultError(err)
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
	case errors.Is(err, localvault.ErrTooLarge), errors.Is(err, localvault.ErrBadName):
		return &api.Error{Code: wire.CodeInvalid, Err: err}
	}
	return err
}

func wireInfos(infos []localvault.Info) []wire.SecretInfo {
	out := make([]wire.SecretInfo, 0, len(infos))
	for _, i := range infos {
		out = append(out, wire.SecretInfo{Name: i.Path, Version: string(i.Version), Created: i.Created, Versions: i.Versions, Size: i.Size})
	}
	return out
}

func wireVersions(entries []localvault.Entry) []wire.SecretVersion {
	out := make([]wire.SecretVersion, 0, len(entries))
	for i, e := range entries {
		out = append(out, wire.SecretVersion{
			Version: string(e.Version), Created: e.Created, Author: e.Author, Size: e.Size, Deleted: e.Deleted,
			Current: i == len(entries)-1 && !e.Deleted,
		})
	}
	return out
}
