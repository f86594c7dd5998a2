package localvault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"filippo.io/age"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// maxFile bounds what is read into memory, in bytes: the largest history in
// base64, with room for everything around it.
const maxFile = keepBytes/3*4 + MaxValueSize

// read returns the record of a secret, nil when it has no file.
func (v *Vault) read(ctx context.Context, path string) (*record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkName(path); err != nil {
		return nil, err
	}
	file := v.file(path)
	sealed, err := readBounded(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, v.there()
	}
	if err != nil {
		return nil, err
	}
	plaintext, err := v.key.open(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	defer clear(plaintext)
	r, err := decodeRecord(path, plaintext)
	if errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("%s: %w: restore it from a backup, or remove it and set the secret again", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// there fails when the vault itself is gone, such as a disk that is not mounted: then
// that a file is missing says nothing about its secret.
func (v *Vault) there() error {
	_, err := os.Stat(v.secrets())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open vault %s: %w", v.dir, ErrNoVault)
	}
	return err
}

// write replaces the file of the record's secret.
func (v *Vault) write(r *record) error {
	plaintext, err := r.encode()
	if err != nil {
		return err
	}
	defer clear(plaintext)
	sealed, err := v.key.seal(plaintext)
	if err != nil {
		return err
	}
	return durable.WriteFile(v.file(r.Name), sealed, 0o600)
}

// change reads a secret's record under the writer lock, lets edit change it and
// writes it when edit says so. The record is empty for a secret without a file.
func (v *Vault) change(ctx context.Context, path string, edit func(*record) (write bool, err error)) (err error) {
	if err := checkName(path); err != nil {
		return err
	}
	unlock, err := lock(ctx, v.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := errors.Join(durable.MkdirPrivate(v.secrets()), v.sweep()); err != nil {
		return err
	}
	r, err := v.read(ctx, path)
	if err != nil {
		return err
	}
	if r == nil {
		r = &record{Format: format, Name: path}
	}
	defer r.wipe()
	write, err := edit(r)
	if err != nil || !write {
		return err
	}
	return v.write(r)
}

func (k *key) seal(plaintext []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, k.recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// open decrypts a file. A wrong key and a damaged header cannot be told apart:
// both mean that no recipient stanza matches.
func (k *key) open(sealed []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, fmt.Errorf("%w: put back the %s it was written with, or restore the file from a backup", ErrWrongKey, k.path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: restore it from a backup, or remove it and set the secret again", ErrDamaged)
	}
	plaintext, err := io.ReadAll(r)
	if err != nil {
		clear(plaintext)
		return nil, fmt.Errorf("%w: restore it from a backup, or remove it and set the secret again", ErrDamaged)
	}
	return plaintext, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: %w: it is larger than any file DSO writes", file, ErrDamaged)
	}
	return b, nil
}
