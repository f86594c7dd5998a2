package e2e

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

// random returns bytes that are not UTF-8 and hold a NUL.
func random(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	assert.NilError(t, err)
	b[0], b[n/2] = 0xff, 0
	return string(b)
}

// canary returns a value that is nowhere else on the machine.
func canary() string { return "canary-" + rand.Text() }

func TestDelivery_ValuesArriveByteForByte(t *testing.T) {
	h := sharedHost(t)
	values := map[string]string{
		"dollar":           `$HOME ${HOME} $$ $(id) %s \$x`,
		"quotes":           `"double" 'single' ` + "`back` \\",
		"lines":            "one\ntwo\r\n\n\tfour",
		"trailing_newline": "value\n",
		"only_newlines":    "\n\n",
		"spaces":           "  left and right  ",
		"json":             `{"a":[1,2,{"b":null}]}` + "<&>\u2028\u2029",
		"unicode":          "pässwörd 秘密 🔑 \u00a0\ufeff",
		"equals":           "=a=b==",
		"control":          "\x01\x1b[31m\x7f",
		"reference":        "dso://app/dollar",
		"long":             strings.Repeat("0123456789abcdef", 6400),
	}
	var options []string
	for name, value := range values {
		h.set("exact/"+name, value)
		options = append(options, "-e", "V_"+name+"=dso://exact/"+name, "-e", "F_"+name+"=dsofile://exact/"+name)
	}
	h.run("exact", sleeper(options...)...)
	env := h.environ("exact")
	for name, value := range values {
		assert.Check(t, env["V_"+name] == value, "%s: got %.100q", name, env["V_"+name])
		path := env["F_"+name]
		assert.Check(t, is.Equal(path, "/run/secrets/dso/exact/"+name))
		assert.Check(t, h.exec("exact", "cat", path) == value, "the file of %s", name)
	}
}

func TestDelivery_FilesHoldAnyBytes(t *testing.T) {
	h := sharedHost(t)
	values := map[string]string{"binary": random(t, 4096), "mebibyte": random(t, 1<<20)}
	var options []string
	for name, value := range values {
		h.set("bytes/"+name, value)
		options = append(options, "-e", name+"=dsofile://bytes/"+name)
	}
	h.run("bytes", sleeper(options...)...)
	for name, value := range values {
		assert.Check(t, h.exec("bytes", "cat", "/run/secrets/dso/bytes/"+name) == value, name)
	}
}

func TestDelivery_AValueThatNoVariableCanHoldIsRefused(t *testing.T) {
	h := sharedHost(t)
	for name, tc := range map[string]struct{ value, why string }{
		"nul":      {"a\x00b", "NUL"},
		"latin1":   {"p\xe4ss", "not UTF-8"},
		"mebibyte": {strings.Repeat("x", 1<<20), "1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.set("unfit/"+name, tc.value)
			s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "unfit-"+name, "-e", "V=dso://unfit/"+name, busybox, "true")
			assert.Assert(t, s.code != 0)
			for _, want := range []string{"dso://unfit/" + name, "for V", tc.why, "use dsofile://"} {
				assert.Check(t, is.Contains(s.all(), want))
			}
			assert.Check(t, !strings.Contains(s.all(), tc.value))
		})
	}
}

func TestDelivery_FieldsOfOneSecret(t *testing.T) {
	h := sharedHost(t)
	h.set("app/database", `{"user":"mira","password":"p$1\n","port":5432,"tls":{"ca":"x"}}`)
	h.run("fields", sleeper(
		"-e", "USER_NAME=dso://app/database#user", "-e", "PASSWORD=dso://app/database#password",
		"-e", "PORT=dso://app/database#port", "-e", "TLS=dso://app/database#tls",
		"-e", "PASSWORD_FILE=dsofile://app/database#password")...)
	env := h.environ("fields")
	assert.Check(t, is.Equal(env["USER_NAME"], "mira"))
	assert.Check(t, is.Equal(env["PASSWORD"], "p$1\n"))
	assert.Check(t, is.Equal(env["PORT"], "5432"))
	assert.Check(t, is.Equal(env["TLS"], `{"ca":"x"}`))
	assert.Check(t, is.Equal(h.exec("fields", "cat", env["PASSWORD_FILE"]), "p$1\n"))

	s := h.tryDocker("run", "--rm", "--runtime", "dso", "-e", "V=dso://app/database#nothing", busybox, "true")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.all(), `dso://app/database#nothing`))
	assert.Check(t, is.Contains(s.all(), "no such member"))
	assert.Check(t, !strings.Contains(s.all(), "mira"))
}

func TestDelivery_AnEmptySecretIsAValue(t *testing.T) {
	h := sharedHost(t)
	s := h.tryDSO("/", "", "secret", "set", "app/empty", "--allow-empty")
	assert.Equal(t, s.code, 0, s.all())
	h.run("empty", sleeper("-e", "V=dso://app/empty", "-e", "F=dsofile://app/empty")...)
	value, there := h.environ("empty")["V"]
	assert.Check(t, there && value == "", "%q", value)
	assert.Check(t, is.Equal(h.exec("empty", "cat", "/run/secrets/dso/app/empty"), ""))
}

func TestDelivery_OnlyTheReferenceIsKept(t *testing.T) {
	h := sharedHost(t)
	value := canary()
	h.set("app/kept", value)
	id := h.run("kept", sleeper("-e", "V=dso://app/kept", "-e", "F=dsofile://app/kept")...)
	assert.Equal(t, h.environ("kept")["V"], value)
	h.docker("commit", "kept", "kept:committed")
	defer h.docker("rmi", "kept:committed")

	record, err := os.ReadFile(filepath.Join(h.Engine.Dir(), "data/containers", id, "config.v2.json"))
	assert.NilError(t, err)
	for what, text := range map[string]string{
		"inspect":         h.docker("inspect", "kept"),
		"config.v2.json":  string(record),
		"committed image": h.docker("inspect", "kept:committed"),
	} {
		assert.Check(t, is.Contains(text, "dso://app/kept"), what)
		assert.Check(t, !strings.Contains(text, value), what)
	}
	assert.Check(t, !strings.Contains(h.docker("history", "--no-trunc", "kept:committed"), value))
	for _, root := range []string{"data", "exec"} {
		for _, file := range holding(t, filepath.Join(h.Engine.Dir(), root), value) {
			t.Errorf("the value lies in %s", file)
		}
	}
}

// holding lists the regular files below dir that contain text.
func holding(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), text) {
			found = append(found, path)
		}
		return nil
	})
	assert.NilError(t, err)
	return found
}

func TestDelivery_FilesAreMountedReadOnlyWithoutDevicesSetuidAndPrograms(t *testing.T) {
	h := sharedHost(t)
	h.set("app/mounted", "x")
	h.run("mounted", sleeper("-e", "F=dsofile://app/mounted")...)
	fields := strings.Fields(h.sh("mounted", "grep ' /run/secrets/dso ' /proc/mounts"))
	assert.Assert(t, len(fields) >= 4, "%q", fields)
	assert.Check(t, is.Equal(fields[2], "tmpfs"))
	options := strings.Split(fields[3], ",")
	for _, want := range []string{"ro", "nosuid", "nodev", "noexec"} {
		assert.Check(t, slices.Contains(options, want), "%s is not in %s", want, options)
	}
	s := h.tryDocker("exec", "mounted", "sh", "-c", "echo y > $F")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.all(), "Read-only file system"))
	for _, line := range []string{"rm /run/secrets/dso/app", "touch /run/secrets/dso/new", "ln -sfn / /run/secrets/dso/..data"} {
		assert.Check(t, h.tryDocker("exec", "mounted", "sh", "-c", line).code != 0, line)
	}
	assert.Check(t, is.Equal(h.exec("mounted", "cat", "/run/secrets/dso/app/mounted"), "x"))
}

func TestDelivery_FilesBelongToTheContainersUser(t *testing.T) {
	h := sharedHost(t)
	h.set("app/owned", "mine")
	stat := func(h *host, container, file string) string {
		return strings.TrimSpace(h.exec(container, "stat", "-L", "-c", "%u:%g %a", "/run/secrets/dso/app/"+file))
	}
	for user, want := range map[string]string{"": "0:0 400", "1000": "1000:1000 400", "app": "1000:1000 400", "4711:4712": "4711:4712 400"} {
		t.Run("user "+user, func(t *testing.T) {
			h := h.in(t)
			name := "owned-" + strings.ReplaceAll(user, ":", "-")
			options := []string{"-e", "F=dsofile://app/owned"}
			if user != "" {
				options = append(options, "--user", user)
			}
			h.run(name, sleeper(options...)...)
			assert.Check(t, is.Equal(stat(h, name, "owned"), want))
			assert.Check(t, is.Equal(h.sh(name, "cat $F"), "mine"))
		})
	}
	t.Run("options", func(t *testing.T) {
		h := h.in(t)
		h.set("app/shared", "ours")
		h.run("options", sleeper("--user", "1000",
			"-e", "A=dsofile://app/owned?uid=7&gid=8&mode=0440", "-e", "B=dsofile://app/shared?mode=444")...)
		assert.Check(t, is.Equal(stat(h, "options", "owned"), "7:8 440"))
		assert.Check(t, is.Equal(stat(h, "options", "shared"), "1000:1000 444"))
		assert.Check(t, h.tryDocker("exec", "options", "sh", "-c", "cat $A").code != 0, "another user's file is readable")
		assert.Check(t, is.Equal(h.sh("options", "cat $B"), "ours"))
	})
}

// Every kind of container that a production host runs, with an image that holds
// nothing but the application.
func TestDelivery_EveryKindOfContainerGetsItsValues(t *testing.T) {
	h := sharedHost(t)
	h.set("app/kind", "k$1")
	h.reload(map[string]any{"default-runtime": "dso"})
	for name, options := range map[string][]string{
		"scratch":         {"--runtime=dso"},
		"default-runtime": nil,
		"user":            {"--runtime=dso", "--user=1000:1000"},
		"read-only":       {"--runtime=dso", "--read-only"},
		"no-capabilities": {"--runtime=dso", "--cap-drop=ALL"},
		"init":            {"--runtime=dso", "--init"},
		"no-network":      {"--runtime=dso", "--network=none"},
		"host-network":    {"--runtime=dso", "--network=host"},
		"no-new-privs":    {"--runtime=dso", "--security-opt=no-new-privileges"},
		"tmpfs-run":       {"--runtime=dso", "--tmpfs=/run"},
		"tmpfs-secrets":   {"--runtime=dso", "--tmpfs=/run/secrets"},
		"host-pid":        {"--runtime=dso", "--pid=host"},
		"hardened": {
			"--runtime=dso", "--user=1000:1000", "--read-only", "--cap-drop=ALL", "--init",
			"--security-opt=no-new-privileges", "--tmpfs=/run", "--network=none",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			args := append([]string{"run", "-d", "--name", "kind-" + name, "-e", "VALUE=dso://app/kind", "-e", "APP_SECRET_FILE=dsofile://app/kind"}, options...)
			h.docker(append(args, "answerer:test")...)
			assert.Check(t, is.Equal(h.environ("kind-" + name)["VALUE"], "k$1"))
			// The application does not start unless it can read its file.
			lab.Eventually(t, name+" answers", func() bool {
				s := h.tryDocker("exec", "kind-"+name, "/answerer", "get", "http://127.0.0.1:8080/")
				return s.out == "k$1\n"
			})
			h.docker("rm", "-f", "kind-"+name)
		})
	}
}

func TestDelivery_ContainersWithoutReferencesAreLeftAlone(t *testing.T) {
	h := sharedHost(t)
	h.docker("run", "--rm", "--runtime", "dso", "--name", "plain", "-e", "V=nodso://x", busybox, "true")
	s := h.tryDocker("run", "--rm", "--runtime", "dso", busybox, "sh", "-c", "exit 42")
	assert.Equal(t, s.code, 42, s.all())
	s = h.tryDocker("run", "--rm", "--runtime", "dso", busybox, "no-such-program")
	assert.Equal(t, s.code, 127, s.all())
	h.set("app/any", "x")
	s = h.tryDocker("run", "--rm", "--runtime", "dso", "-e", "V=dso://app/any", busybox, "no-such-program")
	assert.Equal(t, s.code, 127, "the real runtime's error: %s", s.all())
}

func TestDelivery_CreateThenStart(t *testing.T) {
	h := sharedHost(t)
	h.set("app/created", "before")
	h.docker(append([]string{"create", "--runtime", "dso", "--name", "created", "-e", "V=dso://app/created"}, sleeper()...)...)
	h.set("app/created", "after")
	h.docker("start", "created")
	assert.Equal(t, h.environ("created")["V"], "after")
}

func TestDelivery_ARestartPicksUpTheNewValue(t *testing.T) {
	h := sharedHost(t)
	h.set("app/restarted", "one")
	id := h.run("restarted", sleeper("--label", "dso.reloader=false", "-e", "V=dso://app/restarted", "-e", "F=dsofile://app/restarted")...)
	h.set("app/restarted", "two")
	assert.Equal(t, h.environ("restarted")["V"], "one")
	h.docker("restart", "-t", "0", "restarted")
	assert.Equal(t, h.environ("restarted")["V"], "two")
	assert.Equal(t, h.sh("restarted", "cat $F"), "two")
	assert.Equal(t, h.inspect("restarted", "{{.Id}}"), id)
}

func TestDelivery_ACrashRestartPicksUpTheNewValue(t *testing.T) {
	h := sharedHost(t)
	h.set("app/crashed", "one")
	id := h.run("crashed", sleeper("--label", "dso.reloader=false", "--restart", "always", "-e", "V=dso://app/crashed")...)
	h.set("app/crashed", "two")
	before := h.inspect("crashed", "{{.State.Pid}}")
	h.killProcess(before)
	lab.Eventually(t, "the container runs again", func() bool {
		now := h.inspect("crashed", "{{.State.Pid}}")
		return now != before && now != "0"
	})
	assert.Equal(t, h.environ("crashed")["V"], "two")
	assert.Equal(t, h.inspect("crashed", "{{.Id}}"), id)
}

// killProcess ends a container's process behind the engine's back.
func (h *host) killProcess(pid string) {
	h.t.Helper()
	_, err := h.Run(h.t.Context(), "kill", "-9", pid)
	assert.NilError(h.t, err)
}

func TestUnresolvable_TheStartFailsWithReferenceProviderAndReason(t *testing.T) {
	h := sharedHost(t)
	refused := func(t *testing.T, what string, s said) {
		t.Helper()
		assert.Check(t, s.code != 0, what)
		for _, want := range []string{"dso: cannot resolve dso://app/absent for V", "provider local", "no secret app/absent"} {
			assert.Check(t, is.Contains(s.all(), want), what)
		}
		assert.Check(t, is.Equal(strings.Count(s.all(), "cannot resolve"), 1), what)
	}
	before := h.privateFiles()
	refused(t, "run", h.tryDocker("run", "-d", "--runtime", "dso", "--name", "absent", "-e", "V=dso://app/absent", busybox, "sleep", "3600"))
	assert.Check(t, !h.running("absent"))
	refused(t, "start", h.tryDocker("start", "absent"))
	refused(t, "State.Error", said{out: h.inspect("absent", "{{.State.Error}}"), code: 1})
	assert.Check(t, is.DeepEqual(h.privateFiles(), before))

	h.set("app/absent", "now there")
	defer h.dso("secret", "delete", "app/absent", "--force")
	h.docker("start", "absent")
	assert.Check(t, is.Equal(h.environ("absent")["V"], "now there"))
	assert.Check(t, is.Equal(h.inspect("absent", "{{.State.Error}}"), ""))
}

func TestUnresolvable_AMalformedReferenceIsRefused(t *testing.T) {
	h := sharedHost(t)
	before := h.privateFiles()
	for ref, why := range map[string]string{
		"dso://":                  "the path is empty",
		"dso://app//x":            "empty segment",
		"dso://../etc/passwd":     "starts with a dot",
		"dso://app/x#":            "the field after # is empty",
		"dso://app/x?mode=0400":   "only a dsofile:// reference has options",
		"dsofile://app/x?mode=9":  "octal mode",
		"dsofile://app/x?color=1": "unknown option",
	} {
		s := h.tryDocker("run", "--rm", "--runtime", "dso", "-e", "V="+ref, busybox, "true")
		assert.Check(t, s.code != 0, ref)
		assert.Check(t, is.Contains(s.all(), "variable V: not a valid secret reference"), ref)
		assert.Check(t, is.Contains(s.all(), why), ref)
	}
	assert.Check(t, is.DeepEqual(h.privateFiles(), before))
}

func TestUnresolvable_AContainerGetsAllOfItsReferencesOrNone(t *testing.T) {
	h := sharedHost(t)
	h.set("app/there", "x")
	h.set("app/there/below", "x")
	before := h.privateFiles()
	for name, tc := range map[string]struct{ other, says string }{
		"absent value":      {"dso://app/missing", "dso://app/missing"},
		"absent file":       {"dsofile://app/missing", "dsofile://app/missing"},
		"malformed":         {"dso://app//", "empty segment"},
		"one file twice":    {"dsofile://app/there?mode=0444", "both ask for the file app/there"},
		"file or directory": {"dsofile://app/there/below", "a file cannot be a directory too"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			s := h.tryDocker("run", "--runtime", "dso", "-e", "A=dso://app/there", "-e", "B=dsofile://app/there", "-e", "C="+tc.other, busybox, "true")
			assert.Check(t, s.code != 0)
			assert.Check(t, is.Contains(s.all(), tc.says))
			assert.Check(t, is.DeepEqual(h.privateFiles(), before))
		})
	}
}

func TestUnresolvable_ARunningContainersNextStartIsRefusedToo(t *testing.T) {
	h := sharedHost(t)
	h.set("app/leaving", "x")
	h.run("leaving", sleeper("-e", "V=dso://app/leaving")...)
	h.dso("secret", "delete", "app/leaving", "--force")
	assert.Check(t, h.running("leaving"), "deleting a secret stops nothing")
	s := h.tryDocker("restart", "-t", "0", "leaving")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.all(), "dso://app/leaving"))
	assert.Check(t, !h.running("leaving"))
}

func TestDelivery_NothingIsLeftOfARemovedContainer(t *testing.T) {
	h := sharedHost(t)
	h.set("app/removed", "x")
	id := h.run("removed", sleeper("-e", "V=dso://app/removed", "-e", "F=dsofile://app/removed")...)
	left := func() []string {
		return slices.DeleteFunc(h.privateFiles(), func(f string) bool { return !strings.Contains(f, id) })
	}
	assert.Assert(t, len(left()) > 0)
	bundle := regexp.MustCompile(`^bundles/`)
	assert.Check(t, !slices.ContainsFunc(h.privateFiles(), bundle.MatchString), "a bundle outlives its start")
	h.docker("rm", "-f", "removed")
	lab.Eventually(t, "its values are gone", func() bool { return len(left()) == 0 })
}

func TestDelivery_AContainerWhoseRuntimeHasAnotherNameKeepsItsFiles(t *testing.T) {
	h := sharedHost(t)
	h.set("app/renamed", "x")
	path := filepath.Join(repository(t), "bin", "dso-runtime")
	h.reload(map[string]any{"runtimes": map[string]any{"dso": map[string]any{"path": path}, "secrets": map[string]any{"path": path}}})
	h.docker(append([]string{"run", "-d", "--runtime", "secrets", "--name", "renamed"}, sleeper("-e", "F=dsofile://app/renamed")...)...)
	gone := h.run("gone", sleeper("-e", "F=dsofile://app/renamed")...)
	h.killAgent()
	h.docker("rm", "-f", "gone")
	h.startAgent()
	lab.Eventually(t, "the agent has tidied up", func() bool {
		return !slices.ContainsFunc(h.privateFiles(), func(f string) bool { return strings.Contains(f, gone) })
	})
	assert.Check(t, is.Equal(h.sh("renamed", "cat $F"), "x"))
}

func TestDelivery_ManyStartsAtOnce(t *testing.T) {
	h := sharedHost(t)
	h.set("app/many", "m")
	done := make(chan said)
	const n = 6
	for i := range n {
		go func() {
			done <- h.tryDocker("run", "--rm", "--runtime", "dso", "--network", "none", "-e", "V=dso://app/many",
				"-e", "F=dsofile://app/many", busybox, "sh", "-c", fmt.Sprintf(`echo %d "$V" "$(cat $F)"`, i))
		}()
	}
	for range n {
		s := <-done
		assert.Check(t, is.Equal(s.code, 0), s.all())
		assert.Check(t, strings.HasSuffix(s.out, " m m\n"), "%q", s.out)
	}
}
