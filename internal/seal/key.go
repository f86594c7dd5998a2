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

// suffixes end the names of key files.
var suffixes = map[Protection]string{ByTPM: ".tpm2.cred", ByHost: ".host.cred", ByFile: ".key"}

const (
	keySize = 32 // bytes: AES-256
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
	by     Protection
	cipher.AEAD
}

func (k key) file(dir string) string { return filepath.Join(dir, k.id+suffixes[k.by]) }

func makeKey(number int, raw []byte, by Protection) (key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(raw)
	k := key{number: number, id: fmt.Sprintf("%d-%x", number, sum[:4]), by: by}
	k.AEAD, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// newKey makes the key of that number, durably.
func newKey(ctx context.Context, dir string, number int, by Protection) (key, error) {
	raw := make([]byte, keySize)
	_, _ = rand.Read(raw) // never fails
	defer clear(raw)
	k, err := makeKey(number, raw, by)
	if err != nil {
		return key{}, err
	}
	data := raw
	if by != ByFile {
		with := "--with-key=host"
		if by == ByTPM {
			with = "--with-key=host+tpm2"
		}
		// Bound to no PCR: an update of the firmware must not cost the values.
		if data, err = systemdCreds(ctx, raw, "encrypt", "--name="+credentialName, with, "--tpm2-pcrs=", "-", "-"); err != nil {
			return key{}, fmt.Errorf("make a sealing key: %w", err)
		}
	}
	return k, durable.WriteFile(k.file(dir), data, 0o600)
}

// keyFile is a file that has the name of a key's.
type keyFile struct {
	path   string
	number int
	by     Protection
}

// readKey reads one key file.
func readKey(ctx context.Context, f keyFile) (key, error) {
	path := f.path
	info, err := os.Stat(path)
	if err != nil {
		return key{}, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return key{}, fmt.Errorf("%s has mode %#o and must have 0600: chmod 600 %s", path, perm, path)
	}
	raw, err := durable.Read(path)
	if err == nil && f.by != ByFile {
		raw, err = systemdCreds(ctx, raw, "decrypt", "--name="+credentialName, "-", "-")
	}
	if err != nil {
		return key{}, fmt.Errorf("%s: %w", path, err)
	}
	defer clear(raw)
	if len(raw) != keySize {
		return key{}, fmt.Errorf("%s is not a key: it has %d bytes and not %d", path, len(raw), keySize)
	}
	k, err := makeKey(f.number, raw, f.by)
	if err == nil && k.file(filepath.Dir(path)) != path {
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

// keyFiles lists the key files.
func keyFiles(dir string) ([]keyFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []keyFile
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		for by, suffix := range suffixes {
			if strings.HasSuffix(e.Name(), suffix) {
				files = append(files, keyFile{filepath.Join(dir, e.Name()), n, by})
			}
		}
	}
	return files, nil
}
