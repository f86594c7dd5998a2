package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Provider reads the files below one directory.
type Provider struct {
	name string
	dir  string
	fp   provider.Fingerprint
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Watcher  = (*Provider)(nil)
)

// New returns a provider of the files below dir, which need not exist yet.
func New(name, dir string, fp provider.Fingerprint) *Provider { return &Provider{name, dir, fp} }

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	_, v, err := p.Get(ctx, path, "")
	return v, err
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	b, err := Read(ctx, p.dir, path)
	if err != nil {
		return secret.Value{}, "", provider.Explain(p.name, path, err)
	}
	value, v, err := p.fp.Check(b, want)
	return value, v, provider.Explain(p.name, path, err)
}

// Read returns the file at path below dir, with all that this package refuses. Its
// errors are those of the contract, without the provider's name.
func Read(ctx context.Context, dir, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", permanent(err))
	}
	defer func() { _ = root.Close() }()
	// Opened once: what is checked is what is read. Without O_NONBLOCK a pipe would
	// wait for a writer.
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no file of that name in %s", provider.ErrNotFound, dir)
	}
	if err != nil {
		return nil, permanent(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, permanent(err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("not a regular file (%w)", provider.ErrPermanent)
	case st.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("every user of this host can write the file: chmod o-w %s (%w)", filepath.Join(dir, path), provider.ErrPermanent)
	}
	if err := written(ctx, f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, provider.MaxValue+1))
	if err != nil {
		return nil, err
	}
	if len(b) > provider.MaxValue {
		return nil, fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	return b, nil
}

// permanent classifies what the file system says.
func permanent(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", provider.ErrDenied, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (%w)", err, provider.ErrPermanent)
	}
	var pe *fs.PathError // a link that leads out of the directory, a loop of links
	if errors.As(err, &pe) {
		return fmt.Errorf("%w (%w)", err, provider.ErrPermanent)
	}
	return err
}

// Watch implements [provider.Watcher].
func (p *Provider) Watch(ctx context.Context) (<-chan struct{}, error) {
	changed, err := Watch(ctx, p.dir)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", p.name, err)
	}
	return changed, nil
}
