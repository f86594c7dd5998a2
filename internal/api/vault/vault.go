package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// ErrForeign says that the name means a secret of a store that DSO only reads.
var ErrForeign = errors.New("not a secret of the local vault")

// Service is the vault in one directory.
type Service struct {
	Dir string
	// IsProvider reports whether a name is a configured provider.
	IsProvider func(string) bool
}

// ID says which secret a name means for a caller in a Compose project.
func (s Service) ID(name, project string) (secret.ID, error) {
	id, err := secret.ParseName(name, project, s.IsProvider)
	if err == nil && id.Provider != secret.DefaultProvider {
		return id, fmt.Errorf("%w: %s lies in provider %s, which DSO only reads", ErrForeign, id.Path, id.Provider)
	}
	return id, err
}

func (s Service) open(name, project string) (*localvault.Vault, string, error) {
	id, err := s.ID(name, project)
	if err != nil {
		return nil, "", err
	}
	v, err := localvault.Open(s.Dir)
	return v, id.Path, err
}

// Init makes the vault unless there is one.
func (s Service) Init() (wire.VaultInfo, error) {
	_, created, err := localvault.Init(s.Dir)
	return wire.VaultInfo{Dir: s.Dir, Created: created}, err
}

// Set stores a new version of a secret.
func (s Service) Set(ctx context.Context, req wire.SetRequest, author string) (wire.VersionResponse, error) {
	v, path, err := s.open(req.Name, req.Project)
	if err != nil {
		return wire.VersionResponse{}, err
	}
	ver, changed, err := v.Set(ctx, path, secret.NewValue(req.Value), localvault.SetOptions{AllowEmpty: req.AllowEmpty, Author: author})
	return wire.VersionResponse{Name: path, Version: string(ver), Changed: changed}, err
}

// Get returns a value.
func (s Service) Get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	v, path, err := s.open(req.Name, req.Project)
	if err != nil {
		return wire.ValueResponse{}, err
	}
	value, ver, err := v.Get(ctx, path, secret.Version(req.Version))
	return wire.ValueResponse{Name: path, Version: string(ver), Value: value.Reveal()}, err
}

// List describes all secrets. With an error, those that could be read.
func (s Service) List(ctx context.Context) ([]wire.SecretInfo, error) {
	rows := []wire.SecretInfo{}
	v, err := localvault.Open(s.Dir)
	if err != nil {
		return rows, err
	}
	infos, err := v.List(ctx)
	for _, i := range infos {
		rows = append(rows, wire.SecretInfo{Name: i.Path, Version: string(i.Version), Created: i.Created, Versions: i.Versions, Size: i.Size})
	}
	return rows, err
}

// Delete removes a secret with all its versions.
func (s Service) Delete(ctx context.Context, req wire.NameRequest) error {
	v, path, err := s.open(req.Name, req.Project)
	if err != nil {
		return err
	}
	return v.Delete(ctx, path)
}

// History lists the versions of a secret, oldest first.
func (s Service) History(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error) {
	v, path, err := s.open(req.Name, req.Project)
	if err != nil {
		return nil, err
	}
	entries, err := v.History(ctx, path)
	rows := make([]wire.SecretVersion, 0, len(entries))
	for i, e := range entries {
		rows = append(rows, wire.SecretVersion{
			Version: string(e.Version), Created: e.Created, Author: e.Author, Size: e.Size, Deleted: e.Deleted,
			Current: i == len(entries)-1 && !e.Deleted,
		})
	}
	return rows, err
}

// Rollback makes an older value current again, as a new version; an empty version
// means the one before.
func (s Service) Rollback(ctx context.Context, req wire.NameRequest, author string) (wire.VersionResponse, error) {
	v, path, err := s.open(req.Name, req.Project)
	if err != nil {
		return wire.VersionResponse{}, err
	}
	ver, changed, err := v.Rollback(ctx, path, secret.Version(req.Version), localvault.SetOptions{Author: author})
	return wire.VersionResponse{Name: path, Version: string(ver), Changed: changed}, err
}
