package lockfile_test

import (
	"bufio"
	"context"
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
)

// holdEnv makes the test binary hold that lock, and start a child of its own that
// lives on, until its standard input ends.
const holdEnv = "DSO_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		_, err := lockfile.Try(path, lockfile.Holder{Agent: "test"})
		child := exec.Command("sleep", "60")
		if err == nil {
			err = child.Start()
		}
		fmt.Println(err, child.Process.Pid)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holder is another process that has the lock, and has a child.
func holder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd, _, line := hosttest.Child(t, holdEnv+"="+path)
	var child int
	_, err := fmt.Sscanf(line, "<nil> %d", &child)
	assert.NilError(t, err, line)
	t.Cleanup(func() {
		p, err := os.FindProcess(child)
		assert.NilError(t, err)
		_ = p.Kill()
	})
	return cmd
}

func TestTry_HoldsAgainstAnotherFileOfTheSameProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.lock")
	first, err := lockfile.Try(path, lockfile.Holder{Agent: "engine x"})
	assert.NilError(t, err)
	_, err = lockfile.Try(path, lockfile.Holder{})
	assert.ErrorIs(t, err, lockfile.ErrHeld)

	h, err := lockfile.Read(path)
	assert.NilError(t, err)
	assert.Equal(t, h.PID, os.Getpid())
	assert.Equal(t, h.Agent, "engine x", "the one who failed overwrote nothing")
	assert.Assert(t, time.Since(h.StartTime) < time.Minute)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	assert.NilError(t, err)
	assert.Equal(t, h.BootID, strings.TrimSpace(string(boot)))

	assert.NilError(t, first.Unlock())
	_, err = os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
	second, err := lockfile.Try(path, lockfile.Holder{})
	assert.NilError(t, err)
	assert.NilError(t, second.Unlock())
}

// The child of the killed holder lives on: had it the file, it would have the lock.
func TestTry_TheKilledHoldersLockIsFreeAlthoughItsChildLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.lock")
	cmd := holder(t, path)
	_, err := lockfile.Try(path, lockfile.Holder{})
	assert.ErrorIs(t, err, lockfile.ErrHeld)
	look, err := lockfile.Look(path)
	assert.NilError(t, err)
	assert.Equal(t, look.PID, cmd.Process.Pid)
	assert.Assert(t, look.Held && look.Alive && look.SameBoot)

	assert.NilError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	l, err := lockfile.Try(path, lockfile.Holder{})
	assert.NilError(t, err)
	assert.NilError(t, l.Unlock())
}

func TestWait_HasTheLockWithinASecondOfTheHoldersDeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.lock")
	cmd := holder(t, path)
	got := make(chan error, 1)
	go func() {
		l, err := lockfile.Wait(t.Context(), path, lockfile.Holder{}, 50*time.Millisecond)
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatal("it is held", err)
	case <-time.After(200 * time.Millisecond): // nothing must happen meanwhile
	}
	killed := time.Now()
	assert.NilError(t, cmd.Process.Kill())
	assert.NilError(t, <-got)
	assert.Assert(t, time.Since(killed) < time.Second, "%s", time.Since(killed))
}

func TestWait_EndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.lock")
	l, err := lockfile.Try(path, lockfile.Holder{})
	assert.NilError(t, err)
	defer func() { assert.NilError(t, l.Unlock()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lockfile.Wait(ctx, path, lockfile.Holder{}, time.Millisecond)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, lockfile.ErrHeld)
}

func TestTry_FollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	assert.NilError(t, os.WriteFile(precious, []byte("x"), 0o600))
	assert.NilError(t, os.Symlink(precious, filepath.Join(dir, "a.lock")))
	_, err := lockfile.Try(filepath.Join(dir, "a.lock"), lockfile.Holder{})
	assert.ErrorContains(t, err, "lock "+dir+"/a.lock")
	text, err := os.ReadFile(precious)
	assert.NilError(t, err)
	assert.Equal(t, string(text), "x")
}
