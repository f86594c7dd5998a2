package localvault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// SetOptions are the options of [Vault.Set]. The zero value is the usual one.
type SetOptions struct {
	AllowEmpty bool   // an empty value is meant
	Author     string // who set it, kept in the history
}

// Info describes a secret as it is now.
type Info struct {
	Path     string
	Version  secret.Version
	Created  time.Time // of the current version
	Versions int       // how many versions are kept
	Size     int       // of the current value, in bytes
}

// Entry describes one version in the history of a secret.
type Entry struct {
	Version secret.Version
	Created time.Time
	Author  string
	Deleted bool // the version is a deletion; its number has no value
	Size    int  // in bytes
}

// Set makes value the current version of a secret. When it already is, nothing
// is written and changed is false. Errors wrap [ErrEmpty], [ErrTooLarge],
// [ErrBadName], [ErrBusy], or what [Vault.Get] returns for an unreadable file.
func (v *Vault) Set(ctx context.Context, path string, value secret.Value, opts SetOptions) (ver secret.Version, changed bool, err error) {
	switch {
	case value.Len() == 0 && !opts.AllowEmpty:
		return "", false, fmt.Errorf("set %s: %w", path, ErrEmpty)
	case value.Len() > MaxValueSize:
		return "", false, fmt.Errorf("set %s: %w: %d bytes, at most %d are possible", path, ErrTooLarge, value.Len(), MaxValueSize)
	}
	err = v.change(ctx, path, func(r *record) (bool, error) {
		ver, changed = v.put(r, value.Reveal(), opts.Author)
		return changed, nil
	})
	if err != nil {
		return "", false, fmt.Errorf("set %s: %w", path, err)
	}
	return ver, changed, nil
}

// put appends a version with a copy of value unless it is the current one.
func (v *Vault) put(r *record, value []byte, author string) (ver secret.Version, changed bool) {
	if cur, ok := r.current(); ok && bytes.Equal(cur.Value, value) {
		return cur.id(), false
	}
	return r.add(entry{Created: v.stamp(), Author: author, Value: bytes.Clone(value)}), true
}

func (v *Vault) stamp() time.Time { return v.now().UTC().Truncate(time.Second) }

// Get returns the value of one version, or of the current one when ver is
// empty, with its version. Errors wrap [ErrNotFound], [ErrNoVersion],
// [ErrWrongKey], [ErrDamaged] or [ErrNewer].
func (v *Vault) Get(ctx context.Context, path string, ver secret.Version) (secret.Value, secret.Version, error) {
	state, _ := v.seen(path)
	r, err := v.read(ctx, path)
	if err != nil {
		return secret.Value{}, "", fmt.Errorf("get %s: %w", path, err)
	}
	e, err := r.find(ver)
	if err != nil {
		return secret.Value{}, "", fmt.Errorf("get %s: %w", path, err)
	}
	value := secret.NewValue(bytes.Clone(e.Value))
	r.wipe()
	if ver == "" {
		v.see(path, state, e.id())
	}
	return value, e.id(), nil
}

// Version returns the current version of a secret. Errors are those of [Vault.Get].
func (v *Vault) Version(ctx context.Context, path string) (secret.Version, error) {
	state, known := v.seen(path)
	if known != "" && ctx.Err() == nil {
		return known, nil
	}
	r, err := v.read(ctx, path)
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", path, err)
	}
	e, err := r.find("")
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", path, err)
	}
	r.wipe()
	v.see(path, state, e.id())
	return e.id(), nil
}

// List describes every secret, in the order of the paths. Files that cannot be
// read do not hide the others: the error joins one for each of them, and the
// readable secrets are returned with it.
func (v *Vault) List(ctx context.Context) ([]Info, error) {
	names, err := v.names()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", v.dir, err)
	}
	var infos []Info
	var errs []error
	for _, name := range names {
		r, err := v.read(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("list %s: %w", name, err))
			continue
		}
		if e, ok := r.current(); ok {
			infos = append(infos, Info{Path: name, Version: e.id(), Created: e.Created, Versions: r.values(), Size: len(e.Value)})
			r.wipe()
		}
	}
	return infos, errors.Join(errs...)
}

// Delete removes a secret with every value of its history. The error wraps
// [ErrNotFound] when there is none.
func (v *Vault) Delete(ctx context.Context, path string) error {
	err := v.change(ctx, path, func(r *record) (bool, error) {
		if _, ok := r.current(); !ok {
			return false, ErrNotFound
		}
		r.remove(entry{Created: v.stamp()})
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", path, err)
	}
	return nil
}

// History describes the kept versions of a secret, the oldest first. Errors are
// those of [Vault.Get].
func (v *Vault) History(ctx context.Context, path string) ([]Entry, error) {
	r, err := v.read(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", path, err)
	}
	if _, ok := r.current(); !ok {
		return nil, fmt.Errorf("history of %s: %w", path, ErrNotFound)
	}
	defer r.wipe()
	entries := make([]Entry, 0, len(r.Versions))
	for _, e := range r.Versions {
		entries = append(entries, Entry{Version: e.id(), Created: e.Created, Author: e.Author, Deleted: e.Deleted, Size: len(e.Value)})
	}
	return entries, nil
}

// Rollback makes the value of an older version current, as a new version. An
// empty ver means the version before the current one. When the value already is
// the current one, nothing is written and changed is false. Errors wrap
// [ErrNoVersion], or are those of [Vault.Get].
func (v *Vault) Rollback(ctx context.Context, path string, to secret.Version, opts SetOptions) (ver secret.Version, changed bool, err error) {
	err = v.change(ctx, path, func(r *record) (bool, error) {
		find := func() (entry, error) { return r.find(to) }
		if to == "" {
			find = r.previous
		}
		e, err := find()
		if err != nil {
			return false, err
		}
		ver, changed = v.put(r, e.Value, opts.Author)
		return changed, nil
	})
	if err != nil {
		return "", false, fmt.Errorf("roll back %s: %w", path, err)
	}
	return ver, changed, nil
}
