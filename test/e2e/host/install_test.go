package host

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// picture is what an uninstallation must give back: files with their owners and contents,
// groups, firewall tables, and what the engine says of its runtimes.
func (d *debian) picture() map[string]string {
	d.t.Helper()
	out := map[string]string{}
	root := d.Path("/")
	for _, top := range []string{"/etc", "/root", "/usr/local", "/usr/lib/systemd", "/usr/libexec", "/run/systemd/system", "/var/lib", "/run/lock", "/opt", "/srv"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // it goes while we look
			}
			name := strings.TrimPrefix(path, strings.TrimSuffix(root, "/"))
			if theirs(name) {
				if e.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			info, err := e.Info()
			if err != nil {
				return nil //nolint:nilerr // it goes while we look
			}
			text := info.Mode().String()
			switch {
			case info.Mode().IsRegular():
				data, err := os.ReadFile(path)
				assert.NilError(d.t, err)
				text += fmt.Sprintf(" %x", data[:min(len(data), 4096)])
			case info.Mode()&fs.ModeSymlink != 0:
				to, err := os.Readlink(path)
				assert.NilError(d.t, err)
				text += " -> " + to
			}
			out[name] = text
			return nil
		})
		assert.NilError(d.t, err)
	}
	out["groups"] = d.run("getent", "group")
	out["tables"] = d.run("nft", "list", "tables")
	out["firewall"] = d.sh("for p in iptables ip6tables; do $p -S DOCKER-USER 2>/dev/null || true; done")
	out["runtime"] = d.run("docker", "info", "-f", "{{.DefaultRuntime}} {{index .Runtimes \"dso\"}}")
	out["units"] = d.sh("systemctl list-unit-files --no-legend --no-pager 'dso*' || true")
	out["run"] = d.sh("ls -d /run/dso /run/dso/private 2>&1 || true")
	return out
}

// theirs reports whether a path belongs to other programs, which change it while they run
// or are asked.
func theirs(path string) bool {
	for _, prefix := range []string{
		"/var/lib/docker", "/var/lib/containerd", "/var/lib/systemd", "/var/lib/dpkg", "/var/lib/apt", "/etc/group-", "/etc/gshadow-", "/root/.docker",
		"/var/lib/ucf", "/etc/machine-id", "/root/docker-dso", "/usr/local/bin/busybox", "/root/answerer", "/etc/docker/key.json", "/root/archive", "/etc/.pwd.lock",
	} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func different(before, after map[string]string) []string {
	var diff []string
	for name, text := range before {
		if after[name] != text {
			diff = append(diff, fmt.Sprintf("%s was %.120q and is %.120q", name, text, after[name]))
		}
	}
	for name, text := range after {
		if _, there := before[name]; !there {
			diff = append(diff, fmt.Sprintf("%s is new: %.120q", name, text))
		}
	}
	slices.Sort(diff)
	return diff
}

// A package, one command, and everything back.
func TestInstall_TheUninstalledHostIsTheOneBefore(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		for name, daemonJSON := range map[string]string{
			"without a daemon.json": "",
			"with one":              "{\n\t\"log-level\": \"warn\",\n\t\"live-restore\": false\n}",
		} {
			t.Run(name, func(t *testing.T) {
				d := newHost(t, m)
				d.engineAnswers()
				d.images()
				if daemonJSON != "" {
					assert.NilError(t, d.Write("/etc/docker/daemon.json", daemonJSON, 0o640))
				}
				bare := d.picture()
				d.install()
				installed := d.picture()
				engine := d.run("systemctl", "show", "--value", "-p", "MainPID", "docker")
				d.setsUp("--yes", "--default-runtime")
				d.agentActive()
				assert.Assert(t, strings.Contains(d.setsUp("--yes"), "nothing to do"))
				d.run("docker", "dso", "init")
				d.set("app/marker", "v1")
				d.sleeper("web", "-e", "MARKER=dso://app/marker")
				assert.Assert(t, strings.Contains(d.environ("web"), "MARKER=v1\n"), "the default runtime resolves references")

				for _, refused := range [][]string{{"docker", "dso", "setup", "--uninstall", "--yes"}, {"apt-get", "remove", "-y", "docker-dso"}} {
					assert.Assert(t, strings.Contains(d.fails(refused[0], refused[1:]...), "could not start without it: web"))
				}
				assert.Assert(t, strings.Contains(d.environ("web"), "MARKER=v1\n"))
				d.run("docker", "rm", "-f", "web")

				d.run("docker", "dso", "setup", "--uninstall", "--yes", "--purge")
				assert.DeepEqual(t, different(installed, d.picture()), []string(nil))
				assert.Equal(t, d.run("systemctl", "show", "--value", "-p", "MainPID", "docker"), engine, "the engine was not restarted")
				d.run("apt-get", "purge", "-y", "-qq", "docker-dso")
				assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
			})
		}
	})
}

func TestInstall_RemoveAndPurgeOfThePackageAlone(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		bare := d.picture()
		d.setUp()
		assert.NilError(t, d.Write("/etc/dso/dso.yaml", "version: 1\n", 0o640))
		d.run("apt-get", "remove", "-y", "-qq", "docker-dso")
		assert.Assert(t, strings.Contains(d.sh("ls /etc/dso /root/.dso"), "dso.yaml"), "the configuration and the vault stay")
		d.run("apt-get", "purge", "-y", "-qq", "docker-dso")
		assert.Assert(t, strings.Contains(d.sh("ls /root/.dso; ls /etc/dso 2>&1 || true"), "key.txt"), "the vault is the user's")
		d.run("rm", "-r", "/root/.dso")
		assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
	})
}

// The files, the scripts and the removal of the other package, by rpm itself: there is no
// Fedora here, and what Debian has is all that the package asks for.
func TestInstall_WithRPM(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		assert.NilError(t, d.Copy(pkg(t, "rpm"), "/root/docker-dso.rpm", 0o644))
		bare := d.picture()
		d.run("rpm", "--initdb")
		d.run("rpm", "--install", "--nodeps", "/root/docker-dso.rpm")
		d.setsUp("--yes")
		d.agentActive()
		d.run("docker", "dso", "init")
		d.set("app/marker", "v1")
		d.run("rpm", "--upgrade", "--force", "--nodeps", "/root/docker-dso.rpm")
		d.agentActive()
		assert.Equal(t, d.run("docker", "dso", "secret", "get", "app/marker"), "v1")
		d.run("docker", "dso", "setup", "--uninstall", "--yes", "--purge")
		d.run("rpm", "--erase", "--nodeps", "docker-dso")
		d.run("rm", "-r", "/root/.rpmdb") // rpm's own list
		assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
	})
}

func TestInstall_FromAnArchive(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		assert.NilError(t, d.Copy(pkg(t, "tar.gz"), "/root/archive.tar.gz", 0o644))
		d.sh("mkdir /root/archive && tar -C /root/archive --strip-components=1 -xzf /root/archive.tar.gz")
		bare := d.picture()
		d.run("/root/archive/docker-dso", d.setupCommand("--yes")...)
		d.agentActive()
		d.run("docker", "dso", "init")
		d.set("app/marker", "v1")
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "setup"), "nothing to do"))
		d.run("/root/archive/docker-dso", "dso", "setup", "--uninstall", "--yes", "--purge")
		assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
	})
}

// A setup that cannot be finished leaves the host as it was: here the engine does not
// take the configuration.
func TestSetup_ThatTheEngineRefusesIsUndone(t *testing.T) {
	t.Parallel() // most of it is waiting
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		assert.NilError(t, d.Write("/etc/docker/daemon.json", `{"no-such-option": true}`, 0o644))
		d.install()
		before := d.picture()
		out := d.fails("docker", d.setupCommand("--yes")...)
		assert.Assert(t, strings.Contains(out, "the engine does not know the runtime dso") || strings.Contains(out, "no-such-option"), out)
		assert.DeepEqual(t, different(before, d.picture()), []string(nil))
	})
}

// A setup that is killed is undone by the next.
func TestSetup_ThatIsKilledIsUndoneByTheNext(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		d.install()
		before := d.picture()
		d.sh(d.setupLine("--yes") + " & pid=$!; while kill -0 $pid && [ ! -e /run/dso/dso.sock ]; do :; done; kill -9 $pid; pkill -9 -x docker-dso || true")
		out := d.setsUp("--yes")
		assert.Assert(t, strings.Contains(out, "a setup that was cut off is undone") || strings.Contains(out, "nothing to do"), out)
		d.run("docker", "dso", "setup", "--uninstall", "--yes", "--purge")
		assert.DeepEqual(t, different(before, d.picture()), []string(nil))
	})
}

func TestInstall_CompletionsAndManPages(t *testing.T) {
	d := newHost(t, service{})
	d.install()
	for _, page := range []string{"1/docker-dso.1", "1/docker-dso-setup.1", "8/dso-agent.8", "8/dso-runtime.8"} {
		assert.Assert(t, strings.Contains(d.sh("man --warnings -l /usr/share/man/man"+page+"* 2>&1 | head -30"), "NAME"), page)
	}
	assert.Assert(t, strings.Contains(d.sh("dso __complete sec 2>/dev/null"), "secret"))
	assert.Assert(t, strings.Contains(d.sh("/usr/libexec/docker/cli-plugins/docker-dso __complete dso sec 2>/dev/null"), "secret"), "docker asks the plugin")
	d.sh("bash -n /usr/share/bash-completion/completions/dso")
}

// Agent and runtime are replaced while containers run and a rotation is parked.
func TestUpgrade_InTheMiddleOfARotation(t *testing.T) {
	t.Parallel() // most of it is waiting
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		pid := m.pid(d)
		d.sh("cp /usr/bin/dso-agent /root/dso-agent; echo another version >> /root/dso-agent; mv /root/dso-agent /usr/bin/dso-agent")
		d.setsUp("--yes")
		m.restart(d)
		d.agentReplaced(pid)
		d.run("docker", "run", "-d", "--name", "web", "--runtime", "dso", "--restart", "always", "--label", "dso.update.strategy=rolling",
			"--label", "dso.monitor=20s", "-e", "APP_SECRET=dso://app/marker", "answerer:test")
		cmd := d.Command(t.Context(), "docker", "dso", "secret", "set", "app/marker", "--no-wait")
		cmd.Stdin = strings.NewReader("v2")
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, string(out))
		d.eventually("a rotation goes on", func() bool { return strings.Contains(d.run("docker", "dso", "rotations"), "in_progress") })
		pid = m.pid(d)
		d.run("apt-get", "install", "-y", "-qq", "--reinstall", "/root/docker-dso.deb")
		d.agentReplaced(pid)
		d.eventually("the rotation is over", func() bool {
			out, err := d.Run(context.Background(), "docker", "dso", "rotations")
			return err == nil && strings.Contains(out, "rotated") && !strings.Contains(out, "in_progress")
		})
		assert.Assert(t, strings.Contains(d.environ("web"), "APP_SECRET=v2\n"))
	})
}

// An older agent that finds the journal of a newer one ends, and changes nothing.
func TestDowngrade_IsRefusedWithoutHarm(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		f := d.fleet()
		d.set("app/marker", "v2")
		f.up("v2")
		m.stop(d)
		d.sh(`jq '.[].format = 99' /var/lib/dso/state/rotations.json > /tmp/j && cat /tmp/j > /var/lib/dso/state/rotations.json`)
		before := d.sh("cd /var/lib/dso && find . -type f ! -name agent.lock | sort | xargs sha256sum")
		m.start(d)
		d.eventually("it says why", func() bool {
			return strings.Contains(d.run("docker", "dso", "system", "logs", "-n", "20"), "a newer version has written it")
		})
		assert.Equal(t, d.sh("cd /var/lib/dso && find . -type f ! -name agent.lock | sort | xargs sha256sum"), before)
		f.up("v2")
	})
}
