package localvault_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// refused asserts that nothing reads or writes over the file of app/x, that
// every error wraps one of the sentinels, names the file, and shows no value.
func refused(t *testing.T, v *localvault.Vault, dir string, sentinels ...error) {
	t.Helper()
	file := secretFile(dir, "app/x")
	before, err := os.ReadFile(file)
	assert.NilError(t, err)
	_, _, getErr := v.Get(t.Context(), "app/x", "")
	_, _, setErr := v.Set(t.Context(), "app/x", secret.NewValue([]byte("new")), localvault.SetOptions{})
	_, _, rollErr := v.Rollback(t.Context(), "app/x", "", localvault.SetOptions{})
	for _, err := range []error{getErr, setErr, rollErr, v.Delete(t.Context(), "app/x")} {
		assert.Assert(t, wrapsOne(err, sentinels), "got: %v", err)
		assert.ErrorContains(t, err, file)
		assert.Assert(t, !strings.Contains(err.Error(), marker))
	}
	after, err := os.ReadFile(file)
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(before, after), "the file was changed")
}

func wrapsOne(err error, sentinels []error) bool {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

func TestDamage_EveryTruncationIsRefusedAndLeftAlone(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	file := secretFile(dir, "app/x")
	whole, err := os.ReadFile(file)
	assert.NilError(t, err)
	for n := 0; n < len(whole); n += 7 {
		assert.NilError(t, os.WriteFile(file, whole[:n], 0o600))
		refused(t, v, dir, localvault.ErrDamaged)
	}
}

func TestDamage_EveryFlippedByteIsRefused(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	file := secretFile(dir, "app/x")
	whole, err := os.ReadFile(file)
	assert.NilError(t, err)
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x01
		assert.NilError(t, os.WriteFile(file, bad, 0o600))
		_, _, err := v.Get(t.Context(), "app/x", "")
		assert.Assert(t, wrapsOne(err, []error{localvault.ErrDamaged, localvault.ErrWrongKey}), "byte %d: %v", i, err)
		assert.Assert(t, !strings.Contains(err.Error(), marker))
	}
	refused(t, v, dir, localvault.ErrDamaged)
}

func TestDamage_AppendedBytesAreRefused(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	whole, err := os.ReadFile(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(secretFile(dir, "app/x"), append(whole, 'x'), 0o600))
	refused(t, v, dir, localvault.ErrDamaged)
}

func TestDamage_SwappedFilesAreRefused(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", "x")
	set(t, v, "app/y", marker)
	assert.NilError(t, os.Rename(secretFile(dir, "app/y"), secretFile(dir, "app/x")))
	refused(t, v, dir, localvault.ErrDamaged)
	_, _, err := v.Get(t.Context(), "app/x", "")
	assert.ErrorContains(t, err, "renamed or swapped")
}

func TestDamage_AnotherKeyIsRefusedWithTheWayOut(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	other, otherDir := newVault(t)
	set(t, other, "app/y", "y")
	whole, err := os.ReadFile(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(secretFile(otherDir, "app/x"), whole, 0o600))
	refused(t, other, otherDir, localvault.ErrWrongKey)
	_, _, err = other.Get(t.Context(), "app/x", "")
	assert.ErrorContains(t, err, "put back the "+filepath.Join(otherDir, "key.txt"))
}

// forge writes any plaintext as the file of app/x, as a holder of the key could.
func forge(t *testing.T, dir, plaintext string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "key.txt"))
	assert.NilError(t, err)
	ids, err := age.ParseIdentities(f)
	assert.NilError(t, errors.Join(err, f.Close()))
	var out bytes.Buffer
	w, err := age.Encrypt(&out, ids[0].(*age.HybridIdentity).Recipient())
	assert.NilError(t, err)
	_, err = w.Write([]byte(plaintext))
	assert.NilError(t, errors.Join(err, w.Close()))
	assert.NilError(t, os.WriteFile(secretFile(dir, "app/x"), out.Bytes(), 0o600))
}

func TestDamage_ContentThatDSODoesNotWriteIsRefused(t *testing.T) {
	v, dir := newVault(t)
	const created = `"created":"2026-01-02T03:04:05Z"`
	for name, plaintext := range map[string]string{
		"not JSON":            marker,
		"empty":               "",
		"null":                "null",
		"no format":           `{"name":"app/x"}`,
		"no versions":         `{"format":1,"name":"app/x","versions":[]}`,
		"version zero":        `{"format":1,"name":"app/x","versions":[{"version":0,` + created + `,"value":""}]}`,
		"out of order":        `{"format":1,"name":"app/x","versions":[{"version":2,` + created + `,"value":""},{"version":2,` + created + `,"value":""}]}`,
		"value not base64":    `{"format":1,"name":"app/x","versions":[{"version":1,` + created + `,"value":"` + marker + `"}]}`,
		"deleted with value":  `{"format":1,"name":"app/x","versions":[{"version":1,` + created + `,"deleted":true,"value":"YQ=="}]}`,
		"unknown field":       `{"format":1,"name":"app/x","` + marker + `":1,"versions":[{"version":1,` + created + `,"value":""}]}`,
		"something follows":   `{"format":1,"name":"app/x","versions":[{"version":1,` + created + `,"value":""}]}{}`,
		"another secret":      `{"format":1,"name":"` + marker + `","versions":[{"version":1,` + created + `,"value":""}]}`,
		"time is not a time ": `{"format":1,"name":"app/x","versions":[{"version":1,"created":"` + marker + `","value":""}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			forge(t, dir, plaintext)
			refused(t, v, dir, localvault.ErrDamaged)
		})
	}
}

func TestDamage_ANewerFormatIsRefusedAndSaysSo(t *testing.T) {
	v, dir := newVault(t)
	forge(t, dir, `{"format":2,"name":"app/x","whatever":[]}`)
	refused(t, v, dir, localvault.ErrNewer)
	_, _, err := v.Get(t.Context(), "app/x", "")
	assert.ErrorContains(t, err, "upgrade DSO")
}

func TestInit_AgainChangesNothing(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	before, err := os.ReadFile(filepath.Join(dir, "key.txt"))
	assert.NilError(t, err)
	again, created, err := localvault.Init(dir)
	assert.NilError(t, err)
	assert.Assert(t, !created)
	assert.Equal(t, get(t, again, "app/x", ""), marker)
	after, err := os.ReadFile(filepath.Join(dir, "key.txt"))
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(before, after))
}

func TestInit_MakesAPrivatePostQuantumVault(t *testing.T) {
	_, dir := newVault(t)
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "secrets"): 0o700, filepath.Join(dir, "key.txt"): 0o600} {
		st, err := os.Stat(path)
		assert.NilError(t, err)
		assert.Equal(t, st.Mode().Perm(), mode, path)
	}
	key, err := os.ReadFile(filepath.Join(dir, "key.txt"))
	assert.NilError(t, err)
	assert.Assert(t, bytes.Contains(key, []byte("AGE-SECRET-KEY-PQ-")))
}

func TestOpen_WithoutAVaultSaysSo(t *testing.T) {
	dir := t.TempDir()
	assert.NilError(t, os.Chmod(dir, 0o700))
	for _, d := range []string{filepath.Join(dir, "absent"), dir} {
		_, err := localvault.Open(d)
		assert.ErrorIs(t, err, localvault.ErrNoVault)
	}
}

func TestOpen_SecretsWithoutTheirKeyAreNotANewVault(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	assert.NilError(t, os.Remove(filepath.Join(dir, "key.txt")))
	_, err := localvault.Open(dir)
	assert.ErrorIs(t, err, localvault.ErrNoKey)
	_, _, err = localvault.Init(dir)
	assert.ErrorIs(t, err, localvault.ErrNoKey)
	assert.ErrorContains(t, err, "put it back from a backup")
	_, err = os.Stat(filepath.Join(dir, "key.txt"))
	assert.Assert(t, os.IsNotExist(err))
}

func TestOpen_AnUnusableKeyIsNotQuoted(t *testing.T) {
	_, dir := newVault(t)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "key.txt"), []byte(marker), 0o600))
	_, err := localvault.Open(dir)
	assert.ErrorIs(t, err, localvault.ErrNoKey)
	assert.Assert(t, !strings.Contains(err.Error(), marker))
}

func TestOpen_RefusesWhatOthersCanRead(t *testing.T) {
	for name, tc := range map[string]struct {
		path string
		mode os.FileMode
		hint string
	}{
		"key world readable":   {"key.txt", 0o604, "chmod 600 "},
		"key group readable":   {"key.txt", 0o640, "chmod 600 "},
		"directory group":      {".", 0o750, "chmod 700 "},
		"directory world":      {".", 0o701, "chmod 700 "},
		"secrets world listed": {"secrets", 0o705, "chmod 700 "},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := newVault(t)
			assert.NilError(t, os.Chmod(filepath.Join(dir, tc.path), tc.mode))
			_, err := localvault.Open(dir)
			assert.ErrorIs(t, err, localvault.ErrMode)
			assert.ErrorContains(t, err, tc.hint)
			_, _, err = localvault.Init(dir)
			assert.ErrorIs(t, err, localvault.ErrMode)
		})
	}
}

func TestOpen_AClassicAgeKeyWorksToo(t *testing.T) {
	_, dir := newVault(t)
	id, err := age.GenerateX25519Identity()
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "key.txt"), []byte(id.String()+"\n"), 0o600))
	v, err := localvault.Open(dir)
	assert.NilError(t, err)
	set(t, v, "app/x", marker)
	value, _, err := v.Get(context.Background(), "app/x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal()), marker)
}
