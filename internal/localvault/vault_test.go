package localvault_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// marker is a value that no error and no file may show.
const marker = "c0ffee-correct-horse"

func newVault(t *testing.T) (*localvault.Vault, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "vault")
	v, created, err := localvault.Init(dir)
	assert.NilError(t, err)
	assert.Assert(t, created)
	return v, dir
}

func set(t *testing.T, v *localvault.Vault, path, value string) secret.Version {
	t.Helper()
	ver, _, err := v.Set(t.Context(), path, secret.NewValue([]byte(value)), localvault.SetOptions{AllowEmpty: true})
	assert.NilError(t, err)
	return ver
}

func get(t *testing.T, v *localvault.Vault, path string, ver secret.Version) string {
	t.Helper()
	value, _, err := v.Get(t.Context(), path, ver)
	assert.NilError(t, err)
	return string(value.Reveal())
}

func secretFile(dir, path string) string {
	return filepath.Join(dir, "secrets", strings.ReplaceAll(path, "/", "~")+".age")
}

func TestSet_EveryValueRoundTrips(t *testing.T) {
	v, dir := newVault(t)
	values := map[string]string{
		"plain":            marker,
		"dollar":           "pa$$word ${HOME} $1",
		"quotes":           `a"b'c\d` + "`e`",
		"newlines":         "line 1\r\nline 2\n\n",
		"trailing-newline": "value\n",
		"spaces":           "  value\t ",
		"nul":              "a\x00b",
		"not-utf8":         "\xff\xfe\x80",
		"json":             `{"user":"u","password":"<&>"}`,
		"empty":            "",
		"1mib":             strings.Repeat("\x00\x01\xffx", 1<<18),
	}
	for name, value := range values {
		assert.Equal(t, set(t, v, "app/"+name, value), secret.Version("1"))
	}
	again, err := localvault.Open(dir)
	assert.NilError(t, err)
	for name, value := range values {
		assert.Assert(t, get(t, again, "app/"+name, "") == value, name)
	}
}

func TestSet_GreatestValueRoundTripsAndOneMoreByteIsRefused(t *testing.T) {
	v, _ := newVault(t)
	value := bytes.Repeat([]byte{0x5a}, localvault.MaxValueSize)
	assert.Equal(t, set(t, v, "app/big", string(value)), secret.Version("1"))
	got, _, err := v.Get(t.Context(), "app/big", "")
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(got.Reveal(), value))

	_, _, err = v.Set(t.Context(), "app/big", secret.NewValue(append(value, 'x')), localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrTooLarge)
	assert.ErrorContains(t, err, "16777217 bytes, at most 16777216")
}

func TestSet_EmptyValueIsRefusedUnlessMeant(t *testing.T) {
	v, _ := newVault(t)
	_, _, err := v.Set(t.Context(), "app/x", secret.Value{}, localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrEmpty)
	_, changed, err := v.Set(t.Context(), "app/x", secret.Value{}, localvault.SetOptions{AllowEmpty: true})
	assert.NilError(t, err)
	assert.Assert(t, changed)
}

func TestSet_SameValueMakesNoNewVersion(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	before, err := os.ReadFile(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	ver, changed, err := v.Set(t.Context(), "app/x", secret.NewValue([]byte(marker)), localvault.SetOptions{})
	assert.NilError(t, err)
	assert.Equal(t, ver, secret.Version("1"))
	assert.Assert(t, !changed)
	after, err := os.ReadFile(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(before, after))
}

func TestSet_ValueAndNameOfOthersStayOutOfTheFile(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", marker)
	b, err := os.ReadFile(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	assert.Assert(t, !bytes.Contains(b, []byte(marker)))
	st, err := os.Stat(secretFile(dir, "app/x"))
	assert.NilError(t, err)
	assert.Equal(t, st.Mode().Perm(), os.FileMode(0o600))
}

func TestSet_KeepsTwentyVersionsAndNumbersGoOn(t *testing.T) {
	v, _ := newVault(t)
	for i := 1; i <= 25; i++ {
		assert.Equal(t, set(t, v, "app/x", fmt.Sprint("value ", i)), secret.Version(strconv.Itoa(i)))
	}
	h, err := v.History(t.Context(), "app/x")
	assert.NilError(t, err)
	assert.Equal(t, len(h), 20)
	assert.Equal(t, h[0].Version, secret.Version("6"))
	assert.Equal(t, get(t, v, "app/x", "6"), "value 6")
	_, _, err = v.Get(t.Context(), "app/x", "5")
	assert.ErrorIs(t, err, localvault.ErrNoVersion)
}

func TestGet_WhatIsNotThereIsASentinel(t *testing.T) {
	v, _ := newVault(t)
	set(t, v, "app/x", marker)
	_, _, err := v.Get(t.Context(), "app/y", "")
	assert.ErrorIs(t, err, localvault.ErrNotFound)
	_, err = v.Version(t.Context(), "app/y")
	assert.ErrorIs(t, err, localvault.ErrNotFound)
	for _, ver := range []secret.Version{"0", "2", "01", "+1", "-1", "latest"} {
		_, _, err = v.Get(t.Context(), "app/x", ver)
		assert.ErrorIs(t, err, localvault.ErrNoVersion)
	}
}

func TestEveryOperation_RefusesANameThatLeavesTheVault(t *testing.T) {
	v, _ := newVault(t)
	for _, name := range []string{"", "../x", "a/../b", "a//b", "/a", "a~b", "a#f", ".lock", strings.Repeat("n", 201)} {
		_, _, err := v.Set(t.Context(), name, secret.NewValue([]byte("v")), localvault.SetOptions{})
		assert.ErrorIs(t, err, localvault.ErrBadName, name)
		_, _, err = v.Get(t.Context(), name, "")
		assert.ErrorIs(t, err, localvault.ErrBadName, name)
		assert.ErrorIs(t, v.Delete(t.Context(), name), localvault.ErrBadName, name)
	}
	set(t, v, strings.Repeat("n", 200), marker)
}

func TestDelete_ForgetsTheValuesButNotTheNumbers(t *testing.T) {
	v, _ := newVault(t)
	set(t, v, "app/x", "one")
	set(t, v, "app/x", "two")
	assert.NilError(t, v.Delete(t.Context(), "app/x"))

	for _, ver := range []secret.Version{"", "1", "2", "3"} {
		_, _, err := v.Get(t.Context(), "app/x", ver)
		assert.ErrorIs(t, err, localvault.ErrNotFound)
	}
	_, err := v.History(t.Context(), "app/x")
	assert.ErrorIs(t, err, localvault.ErrNotFound)
	_, _, err = v.Rollback(t.Context(), "app/x", "", localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrNotFound)
	assert.ErrorIs(t, v.Delete(t.Context(), "app/x"), localvault.ErrNotFound)
	list, err := v.List(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(list), 0)

	assert.Equal(t, set(t, v, "app/x", "one"), secret.Version("4"))
	_, _, err = v.Get(t.Context(), "app/x", "3")
	assert.ErrorIs(t, err, localvault.ErrNoVersion)
	_, _, err = v.Rollback(t.Context(), "app/x", "", localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrNoVersion)
	h, err := v.History(t.Context(), "app/x")
	assert.NilError(t, err)
	assert.Equal(t, len(h), 2)
	assert.Assert(t, h[0].Deleted && !h[1].Deleted)
}

func TestRollback_AppendsACopyOfTheOldVersion(t *testing.T) {
	v, _ := newVault(t)
	for _, value := range []string{"one", "two", "three"} {
		set(t, v, "app/x", value)
	}
	ver, changed, err := v.Rollback(t.Context(), "app/x", "", localvault.SetOptions{Author: "ann"})
	assert.NilError(t, err)
	assert.Assert(t, changed)
	assert.Equal(t, ver, secret.Version("4"))
	assert.Equal(t, get(t, v, "app/x", ""), "two")

	ver, _, err = v.Rollback(t.Context(), "app/x", "1", localvault.SetOptions{})
	assert.NilError(t, err)
	assert.Equal(t, ver, secret.Version("5"))
	assert.Equal(t, get(t, v, "app/x", ""), "one")

	ver, changed, err = v.Rollback(t.Context(), "app/x", "5", localvault.SetOptions{})
	assert.NilError(t, err)
	assert.Assert(t, !changed)
	assert.Equal(t, ver, secret.Version("5"))

	_, _, err = v.Rollback(t.Context(), "app/x", "9", localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrNoVersion)
	h, err := v.History(t.Context(), "app/x")
	assert.NilError(t, err)
	assert.Equal(t, h[3].Author, "ann")
}

func TestList_DescribesEverySecretInOrder(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "web/b", "12345")
	set(t, v, "app/x", "1")
	set(t, v, "app/x", "12")
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "secrets", "notes.txt"), nil, 0o600))
	list, err := v.List(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(list), 2)
	assert.Equal(t, list[0].Path, "app/x")
	assert.Equal(t, list[0].Version, secret.Version("2"))
	assert.Equal(t, list[0].Versions, 2)
	assert.Equal(t, list[0].Size, 2)
	assert.Assert(t, time.Since(list[0].Created) < time.Minute)
	assert.Equal(t, list[1].Path, "web/b")
}

func TestList_ADamagedFileDoesNotHideTheOthers(t *testing.T) {
	v, dir := newVault(t)
	set(t, v, "app/x", "1")
	set(t, v, "app/y", "2")
	assert.NilError(t, os.WriteFile(secretFile(dir, "app/x"), []byte("junk"), 0o600))
	list, err := v.List(t.Context())
	assert.ErrorIs(t, err, localvault.ErrDamaged)
	assert.ErrorContains(t, err, secretFile(dir, "app/x"))
	assert.Equal(t, len(list), 1)
	assert.Equal(t, list[0].Path, "app/y")
}

func TestSet_SweepsWhatAKilledWriterLeft(t *testing.T) {
	v, dir := newVault(t)
	left := filepath.Join(dir, "secrets", ".app~x.age.tmp-123")
	assert.NilError(t, os.WriteFile(left, []byte("half"), 0o600))
	set(t, v, "app/x", marker)
	files, err := os.ReadDir(filepath.Join(dir, "secrets"))
	assert.NilError(t, err)
	assert.Equal(t, len(files), 1)
}

func TestSet_BusyVaultIsAnErrorWhenTheContextEnds(t *testing.T) {
	v, dir := newVault(t)
	unlock, err := localvault.Lock(t.Context(), dir)
	assert.NilError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, _, err = v.Set(ctx, "app/x", secret.NewValue([]byte(marker)), localvault.SetOptions{})
	assert.ErrorIs(t, err, localvault.ErrBusy)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NilError(t, unlock())
	set(t, v, "app/x", marker)
}

func TestEveryOperation_EndsWithItsContext(t *testing.T) {
	v, _ := newVault(t)
	set(t, v, "app/x", marker)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := v.Get(ctx, "app/x", "")
	assert.ErrorIs(t, err, context.Canceled)
	_, err = v.List(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, v.Delete(ctx, "app/x"), context.Canceled)
}

func TestWatch_SeesAWriteOfAnotherVaultHandleAndEndsWithItsContext(t *testing.T) {
	v, dir := newVault(t)
	ctx, cancel := context.WithCancel(t.Context())
	changed, err := v.Watch(ctx)
	assert.NilError(t, err)
	other, err := localvault.Open(dir)
	assert.NilError(t, err)
	for i := range 3 {
		set(t, other, "app/x", fmt.Sprint(i))
		select {
		case _, ok := <-changed:
			assert.Assert(t, ok)
		case <-time.After(10 * time.Second):
			t.Fatal("no signal within 10 s of a change")
		}
	}
	cancel()
	for range changed { //nolint:revive // drained until it is closed
	}
}

func TestWatch_ChannelClosesWhenTheDirectoryGoes(t *testing.T) {
	v, dir := newVault(t)
	changed, err := v.Watch(t.Context())
	assert.NilError(t, err)
	assert.NilError(t, os.RemoveAll(dir))
	for range changed { //nolint:revive // drained until it is closed
	}
	_, err = v.Watch(t.Context())
	assert.ErrorContains(t, err, "watch vault")
}

// TestMain lets the test binary be the other process of the tests below.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALVAULT_TEST_WRITE"); dir != "" {
		if err := write50(dir, os.Getenv("LOCALVAULT_TEST_ID")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// write50 sets one shared secret and fifty of its own.
func write50(dir, id string) error {
	v, _, err := localvault.Init(dir)
	if err != nil {
		return err
	}
	for i := range 50 {
		value := secret.NewValue(fmt.Appendf(nil, "%s %d", id, i))
		if _, _, err := v.Set(context.Background(), "app/shared", value, localvault.SetOptions{Author: id}); err != nil {
			return err
		}
		if _, _, err := v.Set(context.Background(), fmt.Sprintf("app/%s.%d", id, i), value, localvault.SetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func TestSet_TwoProcessesLoseNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	var wg sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "LOCALVAULT_TEST_WRITE="+dir, "LOCALVAULT_TEST_ID="+id)
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			assert.Check(t, err, string(out))
		})
	}
	wg.Wait()
	v, err := localvault.Open(dir)
	assert.NilError(t, err)
	ver, err := v.Version(t.Context(), "app/shared")
	assert.NilError(t, err)
	assert.Equal(t, ver, secret.Version("100"))
	list, err := v.List(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(list), 101)
	for _, id := range []string{"a", "b"} {
		for i := range 50 {
			assert.Equal(t, get(t, v, fmt.Sprintf("app/%s.%d", id, i), ""), fmt.Sprintf("%s %d", id, i))
		}
	}
}

func TestVault_IsSafeForConcurrentUse(t *testing.T) {
	v, _ := newVault(t)
	set(t, v, "app/x", "0")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				_, _, err := v.Set(t.Context(), "app/x", secret.NewValue(fmt.Appendf(nil, "%d.%d", i, j)), localvault.SetOptions{})
				assert.Check(t, err)
				_, _, err = v.Get(t.Context(), "app/x", "")
				assert.Check(t, err)
			}
		})
	}
	wg.Wait()
	ver, err := v.Version(t.Context(), "app/x")
	assert.NilError(t, err)
	assert.Equal(t, ver, secret.Version("21"))
}
