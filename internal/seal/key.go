package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Protection says what protects the key itself.
type Protection string

// The protections of a key.
const (
	ByTPM  Protection = "tpm2" // systemd-creds, with the host's TPM2 and its own key
	ByHost Protection = "host" // systemd-creds, with the key of the host's systemd
	ByFile Protection = "file" // a file that only root can read
)

const (
	keySize    = 32 // bytes: AES-256
	plainKey   = ".key"
	credential = ".cred"
	// credentialName is bound into what systemd-creds seals.
	credentialName = "dso-seal-key"
	// credsTimeout bounds one call of systemd-creds. A TPM takes a second or two.
	credsTimeout = 20 * time.Second
)

// HasTPM reports whether this host can seal a key with a TPM2.
func HasTPM(ctx context.Context) bool {
	_, err := systemdCreds(ctx, nil, "has-tpm2", "--quiet")
	return err == nil
}

// key is one sealing key. Its id is its file's name: a number, for the order, and the
// beginning of its hash, so that another key in its place is noticed.
type key struct {
	number int
	id     string
	cipher.AEAD
}

func makeKey(number int, raw []byte) (key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(raw)
	k := key{number: number, id: fmt.Sprintf("%d-%x", number, sum[:4])}
	k.AEAD, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// newKey makes the key of that number, durably.
func newKey(ctx context.Context, dir string, number int, by Protection) (key, error) {
	raw := make([]byte, keySize)
	_, _ = rand.Read(raw) // never fails
	defer clear(raw)
	k, err := makeKey(number, raw)
	if err != nil {
		return key{}, err
	}
	ext, data := plainKey, raw
	if by != ByFile {
		with := "--with-key=host"
		if by == ByTPM {
			with = "--with-key=host+tpm2"
		}
		// Bound to no PCR: an update of the firmware must not cost the values.
		ext = credential
		if data, err = systemdCreds(ctx, raw, "encrypt", "--name="+credentialName, with, "--tpm2-pcrs=", "-", "-"); err != nil {
			return key{}, fmt.Errorf("make a sealing key: %w", err)
		}
	}
	return k, durable.WriteFile(filepath.Join(dir, k.id+ext), data, 0o600)
}

// readKey reads one key file.
func readKey(ctx context.Context, path string, number int) (key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return key{}, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return key{}, fmt.Errorf("%s has mode %#o and must have 0600: chmod 600 %s", path, perm, path)
	}
	raw, err := os.ReadFile(path)
	if err == nil && filepath.Ext(path) == credential {
		raw, err = systemdCreds(ctx, raw, "decrypt", "--name="+credentialName, "-", "-")
	}
	if err != nil {
		return key{}, fmt.Errorf("%s: %w", path, err)
	}
	defer clear(raw)
	if len(raw) != keySize {
		return key{}, fmt.Errorf("%s is not a key: it has %d bytes and not %d", path, len(raw), keySize)
	}
	k, err := makeKey(number, raw)
	if err == nil && !strings.HasPrefix(filepath.Base(path), k.id+".") {
		err = fmt.Errorf("%s holds another key than the one it is named for", path)
	}
	return k, err
}

// systemdCreds runs the program with data on its standard input. What it says on
// standard error is about keys and files, never about the data.
func systemdCreds(ctx context.Context, data []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, credsTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemd-creds", args...)
	cmd.Stdin = bytes.NewReader(data)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("systemd-creds %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return out, nil
}

// keyFiles lists the key files with their numbers.
func keyFiles(dir string) (map[string]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string]int{}
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), "-")
		n, err := strconv.Atoi(number)
		if ext := filepath.Ext(e.Name()); ok && err == nil && (ext == plainKey || ext == credential) {
			files[filepath.Join(dir, e.Name())] = n
		}
	}
	return files, nil
}
