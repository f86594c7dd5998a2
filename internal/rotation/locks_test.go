package rotation_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/lockfile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// lockDirEnv makes the test binary hold the lock of app/db in that directory
// until its standard input ends.
const lockDirEnv = "DSO_TEST_HOLD_LOCK_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockDirEnv); dir != "" {
		release, err := rotation.NewLocks(dir).Acquire(context.Background(), []secret.ID{db})
		fmt.Println("held", err)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		release()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holder is another process that holds the lock of app/db.
func holder(t *testing.T, dir string) (cmd *exec.Cmd, letGo func()) {
	t.Helper()
	cmd, in, line := hosttest.Child(t, lockDirEnv+"="+dir)
	assert.Equal(t, line, "held <nil>\n")
	return cmd, func() { _ = in.Close() }
}

func TestLocks_AreHeldAgainstOtherProcesses(t *testing.T) {
	dir := t.TempDir()
	_, letGo := holder(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := rotation.NewLocks(dir).Acquire(ctx, []secret.ID{db})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "lock secret local:app/db: held by another process")

	letGo()
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := rotation.NewLocks(dir).Acquire(ctx, []secret.ID{db})
	assert.NilError(t, err)
	release()
}

func TestLocks_OfAKilledProcessAreFreeAtOnce(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := holder(t, dir)
	assert.NilError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_, err := os.Stat(filepath.Join(dir, "app~db.lock"))
	assert.NilError(t, err, "the file stays, and means nothing")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	release, err := rotation.NewLocks(dir).Acquire(ctx, []secret.ID{db})
	assert.NilError(t, err)
	release()
}

func TestLocks_FileTellsWhoHoldsItAndIsGoneAfterwards(t *testing.T) {
	dir := t.TempDir()
	release, err := rotation.NewLocks(dir).Acquire(t.Context(), []secret.ID{db, {Provider: "aws", Path: "prod/key"}})
	assert.NilError(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "app~db.lock"))
	assert.NilError(t, err)
	var h lockfile.Holder
	assert.NilError(t, json.Unmarshal(data, &h))
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	assert.NilError(t, err)
	assert.Equal(t, h.PID, os.Getpid())
	assert.Equal(t, h.BootID, strings.TrimSpace(string(boot)))
	assert.Assert(t, time.Since(h.StartTime) < time.Minute)
	info, err := os.Stat(filepath.Join(dir, "aws~prod~key.lock"))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))

	release()
	left, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
}

func TestLocks_AreSharedByTheRotationsOfOneProcess(t *testing.T) {
	dir := t.TempDir()
	l := rotation.NewLocks(dir)
	first, err := l.Acquire(t.Context(), []secret.ID{db})
	assert.NilError(t, err)
	second, err := l.Acquire(t.Context(), []secret.ID{db})
	assert.NilError(t, err)
	first()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = rotation.NewLocks(dir).Acquire(ctx, []secret.ID{db})
	assert.Assert(t, errors.Is(err, context.DeadlineExceeded), "it is still held by the second: %v", err)
	second()
	_, err = os.Stat(filepath.Join(dir, "app~db.lock"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestLocks_OfSecretsWithOneFileDoNotWaitForEachOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	release, err := rotation.NewLocks(t.TempDir()).Acquire(ctx, []secret.ID{
		{Provider: "aws", Path: "app/db"}, {Provider: "local", Path: "aws/app/db"},
	})
	assert.NilError(t, err)
	release()
}

func TestLocks_OfALongNameFitIntoAFileName(t *testing.T) {
	l := rotation.NewLocks(t.TempDir())
	long := secret.ID{Provider: "local", Path: "app/" + strings.Repeat("x", 900)}
	other := secret.ID{Provider: "local", Path: "app/" + strings.Repeat("x", 899) + "y"}
	release, err := l.Acquire(t.Context(), []secret.ID{long, other})
	assert.NilError(t, err)
	release()
}
