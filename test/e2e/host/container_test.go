package host

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// The rights of the agent's container, as the kernel sees them.
func TestContainer_HasTheRightsThatAreDocumented(t *testing.T) {
	d := newInstalled(t, container{})
	status, err := os.ReadFile(d.Path("/proc/" + d.mode.pid(d) + "/status"))
	assert.NilError(t, err)
	of := func(key string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + key + `:\s+(\S+)$`).FindStringSubmatch(string(status))
		assert.Assert(t, m != nil, string(status))
		return m[1]
	}
	assert.Equal(t, of("NoNewPrivs"), "1")
	assert.Equal(t, of("Seccomp"), "2", "system calls are filtered")
	want := uint64(0)
	for _, c := range []int{unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_CHROOT, unix.CAP_NET_ADMIN, unix.CAP_IPC_LOCK, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE} {
		want |= 1 << c
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		got, err := strconv.ParseUint(of(set), 16, 64)
		assert.NilError(t, err)
		assert.Equal(t, got, want, set)
	}
	page, err := os.ReadFile("../../../docs/design/security.md")
	assert.NilError(t, err)
	for c := range strings.FieldsSeq("SYS_ADMIN SYS_PTRACE SYS_CHROOT NET_ADMIN IPC_LOCK CHOWN DAC_OVERRIDE") {
		assert.Assert(t, strings.Contains(string(page), "CAP_"+c), c)
	}
	var writable []string
	for mount := range strings.FieldsSeq(d.run("docker", "inspect", "-f", "{{range .Mounts}}{{if .RW}}{{.Destination}} {{end}}{{end}}", "dso-agent")) {
		writable = append(writable, mount)
	}
	slices.Sort(writable)
	assert.DeepEqual(t, writable, []string{"/root/.dso", "/run/dso", "/run/lock/dso", "/var/lib/dso", "/var/run/docker.sock"})
}

// A second setup keeps what the first one has made of the agent. There is never an agent
// of each kind.
func TestSetup_KeepsTheKindOfTheAgent(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		pid := m.pid(d)
		assert.Assert(t, strings.Contains(d.setsUp("--yes"), "nothing to do"))
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "setup", "--yes"), "nothing to do"))
		if m == (service{}) {
			assert.Assert(t, strings.Contains(d.fails("docker", "dso", "setup", "--container", "--yes"), "the agent is a service of this host"))
		}
		assert.Equal(t, m.pid(d), pid)
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), m.keeper()))
	})
}

// Of the host's files the agent sees those in /etc/dso, for stores that are files.
func TestContainer_SeesTheFilesInEtcDSO(t *testing.T) {
	d := newInstalled(t, container{})
	assert.NilError(t, d.Write("/etc/dso/secrets/key", "from a file", 0o600))
	assert.NilError(t, d.Write("/srv/secrets/key", "out of sight", 0o600))
	assert.NilError(t, d.Write("/etc/dso/dso.yaml", `version: 1
providers:
  files: {type: file, config: {dir: /etc/dso/secrets}}
  others: {type: file, config: {dir: /srv/secrets}}
`, 0o640))
	d.mode.reload(d)
	d.eventually("the store is known", func() bool { return strings.Contains(d.status(), "provider files") })
	d.sleeper("web", "--runtime", "dso", "-e", "KEY=dso://files/key")
	assert.Assert(t, strings.Contains(d.environ("web"), "KEY=from a file\n"))
	d.fails("docker", "run", "--rm", "--runtime", "dso", "-e", "KEY=dso://others/key", "busybox:test", "true")
}
