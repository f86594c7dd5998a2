package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// The suffixes of the other two ways to give a credential: token: …, or token_file:
// a path, or token_credential: a name below $CREDENTIALS_DIRECTORY (systemd's
// LoadCredential= and LoadCredentialEncrypted=).
const (
	suffixFile       = "_file"
	suffixCredential = "_credential"
)

// maxCredential bounds a file with a credential, in bytes.
const maxCredential = 64 << 10

// Credential is what DSO proves to a store with. It cannot be printed.
type Credential struct {
	value secret.Value
	key   string // the key that gave it, suffix included
	path  string // empty: the value stands in the configuration
}

// IsSet reports whether there is a credential at all.
func (c Credential) IsSet() bool { return c.key != "" }

// Read returns the credential; one in a file is read again, because whoever put it
// there may replace it.
func (c Credential) Read() (secret.Value, error) {
	if c.path == "" {
		return c.value, nil
	}
	return readCredential(c.path)
}

// readCredential reads a credential's file. One newline at its end is not part of
// it: editors and echo write one.
func readCredential(path string) (secret.Value, error) {
	st, err := os.Stat(path)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read credential: %w", err)
	}
	if err := checkPrivate(path, st); err != nil {
		return secret.Value{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read credential: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	switch {
	case err != nil:
		return secret.Value{}, fmt.Errorf("read credential: %w", err)
	case len(b) > maxCredential:
		return secret.Value{}, fmt.Errorf("%s is longer than a credential can be (%d bytes)", path, maxCredential)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 {
		return secret.Value{}, fmt.Errorf("%s is empty", path)
	}
	return secret.NewValue(b), nil
}

// checkPrivate refuses a file with a secret that others can read or write.
func checkPrivate(path string, st fs.FileInfo) error {
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if perm := st.Mode().Perm(); perm&0o006 != 0 {
		return fmt.Errorf("%s holds a credential and has mode %04o, so that every user of this host can use it: chmod o-rwx %s", path, perm, path)
	}
	return nil
}

// credentialPath returns the file that a key with a suffix means.
func credentialPath(suffix, text string, env func(string) (string, bool)) (string, error) {
	if suffix == suffixFile {
		if !filepath.IsAbs(text) {
			return "", errors.New("must be an absolute path")
		}
		return text, nil
	}
	if text == "" || text != filepath.Base(text) || text == "." || text == ".." {
		return "", errors.New("must be the name of a credential, without a directory")
	}
	if dir, ok := env("CREDENTIALS_DIRECTORY"); ok && dir != "" {
		return filepath.Join(dir, text), nil
	}
	name, ours := strings.CutPrefix(text, credentialPrefix)
	if !ours || name == "" {
		return "", errors.New("needs systemd: CREDENTIALS_DIRECTORY is not set (LoadCredential= in the unit sets it)")
	}
	return filepath.Join(credentialDir, name), nil
}

// What the unit makes credentials of, and their names (LoadCredential=dso:DIR). An agent
// without systemd, such as a container, reads the files themselves.
const (
	credentialPrefix = "dso_"
	credentialDir    = "/etc/dso/credentials"
)
