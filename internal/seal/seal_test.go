package seal_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/seal"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var (
	db  = secret.ID{Provider: "vault", Path: "app/db"}
	tls = secret.ID{Provider: "local", Path: "app/tls"}
	now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
)

func open(t *testing.T, dir string) *seal.Store {
	t.Helper()
	s, problems := reopen(t, dir)
	assert.Equal(t, len(problems), 0, "%v", problems)
	return s
}

func reopen(t *testing.T, dir string) (*seal.Store, []error) {
	t.Helper()
	s, problems, err := seal.Open(t.Context(), dir, seal.ByFile)
	assert.NilError(t, err)
	return s, problems
}

func keep(t *testing.T, s *seal.Store, container string, at time.Time, kvs ...string) {
	t.Helper()
	assert.NilError(t, tryKeep(s, container, at, kvs...))
}

// tryKeep takes "version=value" of db, then of tls.
func tryKeep(s *seal.Store, container string, at time.Time, kvs ...string) error {
	versions, values := secret.Versions{}, map[secret.ID]secret.Value{}
	for i, kv := range kvs {
		v, value, _ := strings.Cut(kv, "=")
		id := []secret.ID{db, tls}[i]
		versions[id], values[id] = secret.Version(v), secret.NewValue([]byte(value))
	}
	return s.Keep(container, versions, values, false, at)
}

func value(s *seal.Store, id secret.ID, v secret.Version) string {
	got, err := s.Get(id, v)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(got.Reveal())
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	assert.NilError(t, err)
	return found
}

func TestStore_RemembersWhatAContainerWasGivenPastItsOwnEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	keep(t, s, "one", now, "7=hunter2", "a=key")
	keep(t, s, "one", now.Add(time.Hour), "7=hunter2", "a=key") // a restart with the same
	s = open(t, dir)
	set, ok := s.Last("one")
	assert.Assert(t, ok)
	assert.DeepEqual(t, set, seal.Set{Versions: secret.Versions{db: "7", tls: "a"}, Since: now})
	assert.Equal(t, value(s, db, "7"), "hunter2")
	assert.Equal(t, value(s, tls, "a"), "key")
	assert.Equal(t, value(s, db, "8"), "error: no sealed value")
	_, ok = s.Last("two")
	assert.Assert(t, !ok)
}

func TestStore_HoldsNoValueInTheClearAndNothingForOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	keep(t, open(t, dir), "one", now, "7=hunter2")
	assert.NilError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		assert.NilError(t, err)
		info, err := d.Info()
		assert.NilError(t, err)
		assert.Equal(t, info.Mode().Perm()&0o077, os.FileMode(0), path)
		if !d.IsDir() {
			data, err := os.ReadFile(path)
			assert.NilError(t, err)
			for _, clear := range []string{"hunter2", "aHVudGVyMg"} {
				assert.Assert(t, !bytes.Contains(data, []byte(clear)), path)
			}
		}
		return nil
	}))
}

func TestStore_OfAProviderThatBecameAnotherStoreTakesTheNewValue(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sealed"))
	keep(t, s, "one", now, "1=of the old store")
	keep(t, s, "one", now, "1=of the new store")
	assert.Equal(t, value(s, db, "1"), "of the new store")
}

func TestKeep_NeedsAValueForEveryVersionThatIsNotSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	keep(t, s, "one", now, "1=v")
	assert.NilError(t, s.Keep("two", secret.Versions{db: "1"}, nil, false, now))
	assert.ErrorIs(t, s.Keep("two", secret.Versions{db: "2"}, nil, false, now), seal.ErrNotSealed)
	set, _ := s.Last("two")
	assert.DeepEqual(t, set.Versions, secret.Versions{db: "1"})
}

func TestKeep_RemembersWhatWasBeforeUntilTheNewIsKnownToWork(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	before := func() secret.Versions {
		s = open(t, dir) // it is on disk
		set, _ := s.Last("one")
		return set.Before
	}
	keep(t, s, "one", now, "1=a")
	assert.Equal(t, len(before()), 0)
	keep(t, s, "one", now, "2=b")
	keep(t, s, "one", now, "3=c")
	assert.DeepEqual(t, before(), secret.Versions{db: "1"})
	assert.NilError(t, s.Retain())
	assert.Equal(t, value(s, db, "1"), "a")
	assert.NilError(t, s.Settle("one"))
	assert.Equal(t, len(before()), 0)

	keep(t, s, "one", now, "4=d")
	keep(t, s, "one", now, "3=c") // it has them again
	assert.Equal(t, len(before()), 0)

	keep(t, s, "one", now, "4=d")
	assert.NilError(t, s.Keep("one", secret.Versions{db: "3"}, nil, true, now)) // a rotation brought it back
	assert.Equal(t, len(before()), 0)
	assert.NilError(t, s.Keep("one", secret.Versions{db: "4"}, nil, true, now)) // and another one forward
	assert.Equal(t, len(before()), 0)
}

// A swapped file would give one secret's value as another's.
func TestStore_ASwappedOrDamagedFileIsNotTakenForAnother(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, a, b string){
		"swapped": func(t *testing.T, a, b string) {
			assert.NilError(t, os.Rename(a, b))
		},
		"swapped with its name": func(t *testing.T, a, b string) { // the sealed part alone
			da, err := os.ReadFile(a)
			assert.NilError(t, err)
			db, err := os.ReadFile(b)
			assert.NilError(t, err)
			_, sealed, _ := bytes.Cut(da, []byte(`"sealed"`))
			head, _, _ := bytes.Cut(db, []byte(`"sealed"`))
			assert.NilError(t, os.WriteFile(b, slices.Concat(head, []byte(`"sealed"`), sealed), 0o600))
		},
		"truncated": func(t *testing.T, a, b string) {
			assert.NilError(t, os.Truncate(a, 10))
			assert.NilError(t, os.Truncate(b, 10))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sealed")
			keep(t, open(t, dir), "one", now, "1=a", "1=b")
			both := files(t, dir, "values/*.json")
			assert.Equal(t, len(both), 2)
			damage(t, both[0], both[1])
			s, _ := reopen(t, dir)
			if got := value(s, db, "1"); got != "a" {
				assert.Assert(t, strings.HasPrefix(got, "error: no sealed value"), got)
			}
			if got := value(s, tls, "1"); got != "b" {
				assert.Assert(t, strings.HasPrefix(got, "error: no sealed value"), got)
			}
			keep(t, s, "one", now, "1=a", "1=b") // it is delivered again
			s = open(t, dir)
			assert.Equal(t, value(s, db, "1")+value(s, tls, "1"), "ab")
		})
	}
}

func TestOpen_SaysPlainlyThatAKeyIsMissingOrWrongAndLosesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		breaks func(t *testing.T, key string)
		says   string
	}{
		"missing": {func(t *testing.T, key string) { assert.NilError(t, os.Remove(key)) }, "1 sealed values in"},
		"another": {func(t *testing.T, key string) {
			assert.NilError(t, os.WriteFile(key, bytes.Repeat([]byte{1}, 32), 0o600))
		}, "another key than the one it is named for"},
		"short":    {func(t *testing.T, key string) { assert.NilError(t, os.Truncate(key, 5)) }, "has 5 bytes and not 32"},
		"readable": {func(t *testing.T, key string) { assert.NilError(t, os.Chmod(key, 0o644)) }, "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sealed")
			keep(t, open(t, dir), "one", now, "1=before")
			key := files(t, dir, "keys/*")[0]
			saved, err := os.ReadFile(key)
			assert.NilError(t, err)
			tc.breaks(t, key)

			s, problems := reopen(t, dir)
			assert.Assert(t, strings.Contains(fmt.Sprint(problems), tc.says), "%v", problems)
			assert.Assert(t, strings.Contains(fmt.Sprint(problems), "put it back from a backup"), "%v", problems)
			assert.Equal(t, value(s, db, "1"), "error: no sealed value")
			keep(t, s, "two", now, "2=meanwhile")
			assert.NilError(t, s.Retain())

			assert.NilError(t, os.RemoveAll(key))
			assert.NilError(t, os.WriteFile(key, saved, 0o600))
			s = open(t, dir)
			assert.Equal(t, value(s, db, "1"), "before")
			assert.Equal(t, value(s, db, "2"), "meanwhile")
		})
	}
}

func TestOpen_OfWhatIsNoFileGoesOn(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"nowhere":     func(path string) error { return os.Symlink(filepath.Base(path), path) },
	} {
		for _, which := range []string{"values/*.json", "sets/*.json", "keys/*.key"} {
			dir := filepath.Join(t.TempDir(), "sealed")
			keep(t, open(t, dir), "one", now, "1=a")
			path := files(t, dir, which)[0]
			assert.NilError(t, os.Remove(path))
			assert.NilError(t, harm(path))
			s, problems := reopen(t, dir)
			assert.Assert(t, len(problems) > 0, "%s: %s", which, name)
			keep(t, s, "two", now, "2=b")
			assert.Equal(t, value(s, db, "2"), "b")
		}
	}
}

func TestNewKey_OpensEverythingAndTheOldKeyIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	keep(t, s, "one", now, "1=a", "2=b")
	old := files(t, dir, "keys/*")
	assert.NilError(t, s.NewKey(t.Context(), seal.ByFile))
	for range 2 {
		assert.Equal(t, value(s, db, "1")+value(s, tls, "2"), "ab")
		s = open(t, dir)
	}
	keys := files(t, dir, "keys/*")
	assert.Equal(t, len(keys), 1)
	assert.Assert(t, keys[0] != old[0])
}

// A crash in the middle leaves both keys, and some values under each.
func TestNewKey_ThatWasCutOffCanBeDoneAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	keep(t, s, "one", now, "1=a", "2=b")
	old := files(t, dir, "keys/*")[0]
	key, err := os.ReadFile(old)
	assert.NilError(t, err)
	value0 := files(t, dir, "values/*")[0]
	under, err := os.ReadFile(value0)
	assert.NilError(t, err)
	assert.NilError(t, s.NewKey(t.Context(), seal.ByFile))
	assert.NilError(t, os.WriteFile(old, key, 0o600))
	assert.NilError(t, os.WriteFile(value0, under, 0o600))
	s = open(t, dir)
	assert.Equal(t, value(s, db, "1")+value(s, tls, "2"), "ab")
	assert.NilError(t, s.NewKey(t.Context(), seal.ByFile))
	assert.Equal(t, len(files(t, dir, "keys/*")), 1)
	s = open(t, dir)
	assert.Equal(t, value(s, db, "1")+value(s, tls, "2"), "ab")
}

func TestNote_IsKeptBesideTheValuesAndUnderTheNextKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	s := open(t, dir)
	keep(t, s, "one", now, "1=a")
	assert.NilError(t, s.Note("configuration", []byte("hunter2")))
	assert.NilError(t, s.Retain())
	assert.NilError(t, s.NewKey(t.Context(), seal.ByFile))
	assert.Equal(t, s.Info().Values, 1)
	s, problems, err := seal.Reopen(t.Context(), dir)
	assert.NilError(t, err)
	assert.Equal(t, len(problems), 0)
	got, err := s.Noted("configuration")
	assert.NilError(t, err)
	assert.Equal(t, string(got.Reveal()), "hunter2")
	for _, path := range files(t, dir, "*/*") {
		text, err := os.ReadFile(path)
		assert.NilError(t, err)
		assert.Assert(t, !bytes.Contains(text, []byte("hunter2")), path)
	}
	for range 2 {
		assert.NilError(t, s.Note("configuration", nil))
		_, err = s.Noted("configuration")
		assert.ErrorIs(t, err, seal.ErrNotSealed)
	}
	_, _, err = seal.Reopen(t.Context(), filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, seal.ErrNotSealed)
}

func TestRetain_LetsGoOfWhatNobodyNames(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sealed"))
	keep(t, s, "one", now, "1=a")
	keep(t, s, "two", now, "2=b")
	keep(t, s, "one", now, "3=c")
	assert.NilError(t, s.Forget("two"))
	assert.NilError(t, s.Forget("two"))
	assert.NilError(t, s.Retain(secret.Versions{db: "1"}))
	assert.Equal(t, value(s, db, "1")+value(s, db, "3"), "ac")
	assert.Equal(t, value(s, db, "2"), "error: no sealed value")
	assert.NilError(t, s.Settle("one"))
	assert.NilError(t, s.Retain())
	assert.Equal(t, value(s, db, "1"), "error: no sealed value")
	assert.DeepEqual(t, s.Containers(), []string{"one"})
}

func TestDestroy_LeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sealed")
	keep(t, open(t, dir), "one", now, "1=a")
	assert.NilError(t, seal.Destroy(dir))
	_, err := os.Stat(dir)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NilError(t, seal.Destroy(dir))
}

// The key of the host's own systemd needs no TPM, and is made and read the same way.
func TestKey_CanBeSealedBySystemd(t *testing.T) {
	if _, err := exec.LookPath("systemd-creds"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and systemd-creds")
	}
	dir := filepath.Join(t.TempDir(), "sealed")
	t.Setenv("SYSTEMD_CREDENTIAL_SECRET", filepath.Join(t.TempDir(), "secret")) // not the real host's
	s, _, err := seal.Open(t.Context(), dir, seal.ByHost)
	assert.NilError(t, err)
	keep(t, s, "one", now, "1=a")
	assert.Equal(t, len(files(t, dir, "keys/*.host.cred")), 1)
	s, _, err = seal.Open(t.Context(), dir, seal.ByHost)
	assert.NilError(t, err)
	assert.Equal(t, value(s, db, "1"), "a")

	// Another protection is another key.
	assert.Equal(t, value(open(t, dir), db, "1"), "a")
	assert.Equal(t, len(files(t, dir, "keys/*.cred")), 0)
	assert.Equal(t, len(files(t, dir, "keys/*.key")), 1)
}
