package localvault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/gofrs/flock"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// MaxValueSize is the greatest length of a value, in bytes.
const MaxValueSize = 16 << 20

const (
	keyName    = "key.txt"
	lockName   = "lock"
	secretsDir = "secrets"
	suffix     = ".age"

	// maxName leaves room for the suffixes of temporary files below the usual
	// limit of 255 bytes for a file name.
	maxName = 200

	lockWait  = 10 * time.Second // for a context without a deadline
	lockRetry = 5 * time.Millisecond
)

// Vault is an open vault. It is safe for concurrent use, also by several
// processes. Keeping one open costs nothing but the key in memory.
type Vault struct {
	dir string
	key *key
	now func() time.Time

	mu       sync.Mutex
	versions map[string]seenVersion // by path
}

// DefaultDir returns the directory of the calling user's vault, ~/.dso.
func DefaultDir() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the vault: %w", err)
	}
	return filepath.Join(home, ".dso"), nil
}

// Init makes a vault in dir unless there is one, and opens it; created says
// which. An existing key is never replaced. When dir has secrets but no key,
// the error wraps [ErrNoKey]: a new key could not read them.
func Init(dir string) (v *Vault, created bool, err error) {
	for _, d := range []string{dir, filepath.Join(dir, secretsDir)} {
		if err := durable.MkdirPrivate(d); err != nil {
			return nil, false, fmt.Errorf("init vault: %w: %w", ErrMode, err)
		}
	}
	unlock, err := lock(context.Background(), dir)
	if err != nil {
		return nil, false, fmt.Errorf("init vault: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	v, err = Open(dir)
	if err == nil || !errors.Is(err, ErrNoVault) {
		return v, false, err
	}
	if err := newKey(filepath.Join(dir, keyName)); err != nil {
		return nil, false, fmt.Errorf("init vault: %w", err)
	}
	v, err = Open(dir)
	return v, err == nil, err
}

// Open opens the vault in dir. The error wraps [ErrNoVault] when there is none,
// [ErrNoKey] when only its key is missing or unusable, and [ErrMode] when others
// could read the key.
func Open(dir string) (*Vault, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open vault %s: %w", dir, ErrNoVault)
	}
	for _, d := range []string{dir, filepath.Join(dir, secretsDir)} {
		if err := checkPrivate(d, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open vault: %w", err)
		}
	}
	path := filepath.Join(dir, keyName)
	err := checkPrivate(path, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	k, err := readKey(path)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	return &Vault{dir: dir, key: k, now: time.Now}, nil
}

// Dir returns the directory of the vault.
func (v *Vault) Dir() string { return v.dir }

// secrets returns the directory of the age files.
func (v *Vault) secrets() string { return filepath.Join(v.dir, secretsDir) }

func missingKey(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, secretsDir, "*"+suffix))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("open vault %s: %w", dir, ErrNoVault)
	}
	return fmt.Errorf("open vault: %w: %d secrets were written with %s, put it back from a backup",
		ErrNoKey, len(files), filepath.Join(dir, keyName))
}

// checkPrivate refuses what others than the owner can read, write or enter.
func checkPrivate(path string, want fs.FileMode) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %#o and must have %#o: chmod %o %s", ErrMode, path, perm, want, want, path)
	}
	return nil
}

// lock waits for the vault's writer lock and returns what gives it back. The
// kernel gives it back by itself when the process dies.
func lock(ctx context.Context, dir string) (unlock func() error, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lockWait)
		defer cancel()
	}
	path := filepath.Join(dir, lockName)
	fl := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := fl.TryLockContext(ctx, lockRetry)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("lock %s: %w: %w", path, ErrBusy, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", path, err)
	case !ok:
		return nil, fmt.Errorf("lock %s: %w", path, ErrBusy)
	}
	return fl.Close, nil
}

// checkName applies the grammar of references, so that a name can neither leave
// the directory nor contain what replaces the slashes.
func checkName(path string) error {
	r, err := secret.ParseRef("dso://" + path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadName, err)
	}
	if r.Field != "" {
		return fmt.Errorf("%w: %q has a #field", ErrBadName, path)
	}
	if len(path) > maxName {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrBadName, maxName)
	}
	return nil
}

// file returns the path of the file of a secret.
func (v *Vault) file(path string) string {
	return filepath.Join(v.secrets(), strings.ReplaceAll(path, "/", "~")+suffix)
}

// names lists the secrets that have a file, deleted ones included, in order.
func (v *Vault) names() ([]string, error) {
	files, err := os.ReadDir(v.secrets())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, f := range files {
		base, ok := strings.CutSuffix(f.Name(), suffix)
		name := strings.ReplaceAll(base, "~", "/")
		if ok && checkName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// sweep removes what a writer that was killed left behind. The caller holds the
// lock, so no temporary file can be in use.
func (v *Vault) sweep() error {
	left, err := filepath.Glob(filepath.Join(v.secrets(), ".*"+suffix+".tmp-*"))
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// key is the identity in the key file and what is encrypted for it.
type key struct {
	path       string
	identities []age.Identity
	recipient  age.Recipient
}

func newKey(path string) error {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	text := "# The key of this vault. Without it no secret in it can be read: keep a copy.\n" +
		"# public key: " + id.Recipient().String() + "\n" + id.String() + "\n"
	return durable.WriteFile(path, []byte(text), 0o600)
}

func readKey(path string) (*key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	ids, err := age.ParseIdentities(f)
	if err != nil {
		// The parser quotes what it could not read: that may be the key.
		return nil, fmt.Errorf("%w: %s holds no age identity, put it back from a backup", ErrNoKey, path)
	}
	k := &key{path: path, identities: ids}
	switch id := ids[0].(type) {
	case *age.HybridIdentity:
		k.recipient = id.Recipient()
	case *age.X25519Identity:
		k.recipient = id.Recipient()
	default:
		return nil, fmt.Errorf("%w: %s holds an identity of an unknown kind", ErrNoKey, path)
	}
	return k, nil
}
