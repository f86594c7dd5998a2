package agent

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/lockfile"
)

// claimEnv makes the test binary an agent that has claimed everything in that
// directory, until its standard input ends.
const claimEnv = "DSO_TEST_CLAIM_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(claimEnv); dir != "" {
		ctx, c := context.Background(), &claims{dir: dir}
		err := c.takeDirs(ctx, dir, dir)
		if err == nil {
			err = c.takeEngine(ctx, here, false)
		}
		fmt.Println("claimed", err)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	if socket := os.Getenv(silentSocket); socket != "" {
		beSilent(socket)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var here = engine.Identity{ID: "4b", DataRoot: "/var/lib/docker"}

// other is another process that has claimed everything in dir.
func other(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd, _, line := hosttest.Child(t, claimEnv+"="+dir)
	assert.Equal(t, line, "claimed <nil>\n")
	return cmd
}

func TestClaims_TheErrorNamesWhatIsSharedAndWithWhom(t *testing.T) {
	dir, free := t.TempDir(), t.TempDir()
	cmd := other(t, dir)
	ctx, c := t.Context(), &claims{dir: dir}
	for what, take := range map[string]func() error{
		"state directory " + dir:      func() error { return c.takeDirs(ctx, dir, free) },
		"run directory " + dir:        func() error { return c.takeDirs(ctx, free, dir) },
		"engine 4b at " + "/var/lib/": func() error { return c.takeEngine(ctx, here, false) },
	} {
		err := take()
		assert.Check(t, is.ErrorIs(err, ErrSecondAgent), what)
		assert.Check(t, is.ErrorContains(err, fmt.Sprintf("another agent is running: pid %d since 20", cmd.Process.Pid)), what)
		assert.Check(t, is.ErrorContains(err, " has the "+what))
		assert.NilError(t, c.release())
	}
}

func TestClaims_WithinOneProcess(t *testing.T) {
	dir := t.TempDir()
	first, second := &claims{dir: dir}, &claims{dir: dir}
	assert.NilError(t, first.takeDirs(t.Context(), dir, dir))
	assert.ErrorIs(t, second.takeDirs(t.Context(), dir, dir), ErrSecondAgent)
	assert.NilError(t, first.takeEngine(t.Context(), here, false))
	assert.ErrorIs(t, second.takeEngine(t.Context(), here, false), ErrSecondAgent)
	assert.Equal(t, len(first.held()), 3)

	assert.NilError(t, first.release())
	assert.Equal(t, len(first.held()), 0)
	assert.NilError(t, second.takeDirs(t.Context(), dir, dir))
	assert.NilError(t, second.takeEngine(t.Context(), here, false))
	assert.NilError(t, second.release())
	left, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
}

func TestClaims_AStandbyTakesOverWithinASecondOfTheOthersDeath(t *testing.T) {
	dir := t.TempDir()
	cmd := other(t, dir)
	waits := make(chan *SecondAgentError, 9)
	c := &claims{dir: dir, standBy: func(e *SecondAgentError) { waits <- e }}
	got := make(chan error, 1)
	go func() {
		err := c.takeDirs(t.Context(), dir, dir)
		if err == nil {
			err = c.takeEngine(t.Context(), here, true)
		}
		got <- err
	}()
	w := <-waits
	assert.Equal(t, w.What, "state directory "+dir)
	assert.Equal(t, w.Holder.PID, cmd.Process.Pid)
	killed := time.Now()
	assert.NilError(t, cmd.Process.Kill())
	assert.NilError(t, <-got)
	assert.Assert(t, time.Since(killed) < time.Second, "%s", time.Since(killed))
	assert.Equal(t, len(waits), 0, "it says once that it waits")
	assert.NilError(t, c.mayChange())
	assert.NilError(t, c.release())
}

func TestClaims_AWaitingStandbyEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	other(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	c := &claims{dir: dir, standBy: func(*SecondAgentError) { cancel() }}
	assert.ErrorIs(t, c.takeDirs(ctx, dir, dir), context.Canceled)
}

// A standby that serves already does not wait in the middle of its work.
func TestClaims_ARunningStandbyIsRefusedAnEngine(t *testing.T) {
	dir := t.TempDir()
	other(t, dir)
	c := &claims{dir: dir, standBy: func(*SecondAgentError) { t.Error("it waits") }}
	assert.ErrorIs(t, c.takeEngine(t.Context(), here, false), ErrSecondAgent)
	assert.ErrorIs(t, c.mayChange(), errNotClaimed)
}

func TestClaims_NothingIsChangedBetweenTwoConnections(t *testing.T) {
	c := &claims{dir: t.TempDir()}
	assert.ErrorIs(t, c.mayChange(), errNotClaimed)
	assert.Assert(t, engine.Unavailable(c.mayChange()), "a rotation waits for it as for an engine that is away")
	for range 2 {
		assert.NilError(t, c.takeEngine(t.Context(), here, false))
		assert.NilError(t, c.mayChange())
		c.engineGone()
		assert.ErrorIs(t, c.mayChange(), errNotClaimed)
	}
	assert.Equal(t, len(c.held()), 1, "the lock stays while the engine is away")
}

func TestClaims_AnotherEngineIsAnotherLock(t *testing.T) {
	dir := t.TempDir()
	c := &claims{dir: dir}
	assert.NilError(t, c.takeEngine(t.Context(), here, false))
	c.engineGone()
	for _, next := range []engine.Identity{{ID: "4b", DataRoot: "/data"}, {ID: "5c", DataRoot: "/data"}} {
		before := c.held()
		assert.NilError(t, c.takeEngine(t.Context(), next, false))
		assert.Assert(t, c.held()[0] != before[0])
		l, err := lockfile.Try(before[0], lockfile.Holder{})
		assert.NilError(t, err, "the one before is given back")
		assert.NilError(t, l.Unlock())
	}

	// And when it is taken, nothing may be changed.
	taken := engine.Identity{ID: "6d", DataRoot: "/data"}
	l, err := lockfile.Try(engineLock(dir, taken), lockfile.Holder{})
	assert.NilError(t, err)
	defer func() { assert.NilError(t, l.Unlock()) }()
	c.engineGone()
	assert.ErrorIs(t, c.takeEngine(t.Context(), taken, false), ErrSecondAgent)
	assert.ErrorIs(t, c.mayChange(), errNotClaimed)
}

func TestSecondAgentError_OfALockThatDoesNotSayWho(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.lock")
	l, err := lockfile.Try(path, lockfile.Holder{})
	assert.NilError(t, err)
	defer func() { assert.NilError(t, l.Unlock()) }()
	for content, want := range map[string]string{
		"pid 12 since yesterday": "it has the state directory " + dir + " (lock file " + path + ": it does not say who made it)",
		"4194304":                "pid 4194304 (as its own container numbers it) has the state directory",
	} {
		assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
		assert.ErrorContains(t, (&claims{}).takeDirs(t.Context(), dir, dir), want)
	}
}

func TestOpenLockDir_TrustsNobody(t *testing.T) {
	parent := t.TempDir()
	at := func(name string) string { return filepath.Join(parent, name) }
	assert.NilError(t, openLockDir(at("new/dso")))
	assert.NilError(t, openLockDir(at("new/dso")))
	assert.NilError(t, os.Symlink(at("new"), at("link")))
	assert.ErrorContains(t, openLockDir(at("link")), "is no directory")
	assert.NilError(t, os.Mkdir(at("open"), 0o700))
	assert.NilError(t, os.Chmod(at("open"), 0o777))
	assert.ErrorContains(t, openLockDir(at("open")), "chmod 755 "+at("open"))
	if os.Getuid() == 0 { // only root can give a directory away
		assert.NilError(t, os.Mkdir(at("foreign"), 0o700))
		assert.NilError(t, os.Chown(at("foreign"), 1, 1))
		assert.ErrorContains(t, openLockDir(at("foreign")), "belongs to user 1")
	}
}

// The first lines of /proc/self/mountinfo in a container, as engines write them.
const (
	dockerRoot = `1100 1035 0:70 / / rw,relatime master:400 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
1101 1100 0:75 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1109 1100 8:1 /var/lib/docker/containers/0123abcd/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw
1110 1100 8:1 /var/lib/docker/containers/0123abcd/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw
`
	podmanRoot = `710 600 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/l
715 710 0:25 /containers/storage/overlay-containers/0123abcd/userdata/hosts /etc/hosts rw,nosuid - tmpfs tmpfs rw
`
	hostRoot = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:26 / /run rw,nosuid - tmpfs tmpfs rw
`
)

func TestCheckLockDir(t *testing.T) {
	const dir = "/run/lock/dso"
	for name, tc := range map[string]struct{ mounts, refused string }{
		"on a host":                      {hostRoot, ""},
		"mounted from the host":          {dockerRoot + "1120 1100 0:26 /lock/dso /run/lock/dso rw,nosuid - tmpfs tmpfs rw\n", ""},
		"mounted from a disk":            {dockerRoot + "1120 1100 8:1 /srv/locks /run/lock/dso rw - ext4 /dev/sda1 rw\n", ""},
		"its parent mounted":             {dockerRoot + "1120 1100 0:26 /lock /run/lock rw,nosuid - tmpfs tmpfs rw\n", ""},
		"nothing mounted":                {dockerRoot, "the container's own file system"},
		"nothing mounted, podman":        {podmanRoot, "the container's own file system"},
		"a neighbour mounted":            {dockerRoot + "1120 1100 0:26 /lock/dso /run/lock/dso-other rw - tmpfs tmpfs rw\n", "the container's own file system"},
		"a tmpfs":                        {dockerRoot + "1120 1100 0:99 / /run rw,nosuid - tmpfs tmpfs rw\n", "a tmpfs on /run"},
		"a tmpfs over the mount":         {dockerRoot + "1120 1100 0:26 /lock/dso /run/lock/dso rw - tmpfs tmpfs rw\n1121 1120 0:99 / /run/lock/dso rw - tmpfs tmpfs rw\n", "a tmpfs on /run/lock/dso"},
		"a volume":                       {dockerRoot + "1120 1100 8:1 /var/lib/docker/volumes/x/_data /run/lock/dso rw - ext4 /dev/sda1 rw\n", "a volume on /run/lock/dso"},
		"mounted below a tmpfs":          {dockerRoot + "1120 1100 0:99 / /run rw - tmpfs tmpfs rw\n1121 1120 0:26 /lock/dso /run/lock/dso rw - tmpfs tmpfs rw\n", ""},
		"rubbish":                        {"x\n\n - \n", ""},
		"a machine made from an image":   {"27 1 254:0 / / rw - ext4 /dev/vda rw\n", ""},
		"a namespace with a tmpfs there": {hostRoot + "31 30 0:80 / /run/lock rw - tmpfs tmpfs rw\n", ""},
	} {
		err := checkLockDir(tc.mounts, dir)
		if tc.refused == "" {
			assert.Check(t, err, name)
			continue
		}
		assert.Check(t, is.ErrorIs(err, ErrContainer), name)
		assert.Check(t, is.ErrorContains(err, tc.refused), name)
		assert.Check(t, is.ErrorContains(err, "-v /run/lock/dso:/run/lock/dso"), name)
	}
}
