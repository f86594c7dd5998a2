package e2e

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// The exit codes that the command line promises.
const (
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
	exitNoAgent  = 4
	exitDenied   = 5
)

// vaults runs a test with the agent that serves the vault, and again where there
// is none and the command line opens the vault itself.
func vaults(t *testing.T, test func(t *testing.T, h *host)) {
	t.Helper()
	t.Run("through the agent", func(t *testing.T) { test(t, sharedHost(t)) })
	t.Run("without an agent", func(t *testing.T) {
		h := sharedHost(t)
		h.killAgent()
		test(t, h)
	})
}

// remove takes the secrets of a test away again.
func (h *host) remove(names ...string) {
	for _, name := range names {
		h.tryDSO("/", "", "secret", "delete", name, "--force")
	}
}

func TestVault_NothingIsThereBeforeInit(t *testing.T) {
	h := ownHost(t)
	check := func(t *testing.T) {
		for _, args := range [][]string{{"secret", "list"}, {"secret", "get", "app/x"}, {"secret", "set", "app/x"}} {
			s := h.tryDSO("/", "value", args...)
			assert.Check(t, is.Equal(s.code, exitError), "%v", args)
			assert.Check(t, is.Contains(s.err, "dso: error: "))
			assert.Check(t, is.Contains(s.err, "there is no vault"))
			assert.Check(t, is.Contains(s.err, "dso: hint: docker dso init makes one"))
		}
	}
	check(t)
	h.startAgent()
	check(t)
	assert.Check(t, is.Contains(h.dso("init"), "Made a vault in "))
	assert.Check(t, is.Contains(h.dso("init"), "exists; nothing was changed"))
	h.killAgent()
	assert.Check(t, is.Contains(h.dso("init"), "exists; nothing was changed"))
	info, err := os.Stat(filepath.Join(h.Engine.Dir(), "home/.dso"))
	assert.NilError(t, err)
	assert.Check(t, is.Equal(info.Mode().Perm(), os.FileMode(0o700)))
}

func TestVault_KeepsValuesByteForByte(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		defer h.remove("app/bytes")
		for name, value := range map[string]string{
			"text": "p$1", "trailing newline": "line\n", "only a newline": "\n", "binary": random(t, 1000), "1 MiB": random(t, 1<<20),
		} {
			h.set("app/bytes", value)
			s := h.tryDSO("/", "", "secret", "get", "app/bytes")
			assert.Check(t, s.code == 0 && s.out == value, "%s from standard input", name)

			file := filepath.Join(h.t.TempDir(), "value")
			assert.NilError(t, os.WriteFile(file, []byte("f"+value), 0o600))
			s = h.tryDSO("/", "not this", "secret", "set", "app/bytes", "--file", file, "--no-wait")
			assert.Check(t, is.Equal(s.code, 0), s.all())
			s = h.tryDSO("/", "", "secret", "get", "app/bytes")
			assert.Check(t, s.code == 0 && s.out == "f"+value, "%s from a file", name)
		}
	})
}

func TestVault_RefusesAnEmptyValueUnlessItIsMeant(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		defer h.remove("app/vacant")
		s := h.tryDSO("/", "", "secret", "set", "app/vacant")
		assert.Check(t, is.Equal(s.code, exitUsage))
		assert.Check(t, is.Contains(s.err, "empty"))
		assert.Check(t, is.Contains(s.err, "--allow-empty"))
		assert.Check(t, is.Equal(h.tryDSO("/", "", "secret", "get", "app/vacant").code, exitNotFound))
		assert.Check(t, is.Equal(h.tryDSO("/", "", "secret", "set", "app/vacant", "--allow-empty").code, 0))
		s = h.tryDSO("/", "", "secret", "get", "app/vacant")
		assert.Check(t, s.code == 0 && s.out == "", "%q", s.all())
	})
}

func TestVault_RefusesWhatItCannotStore(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		s := h.tryDSO("/", strings.Repeat("x", 16<<20+1), "secret", "set", "app/large")
		assert.Check(t, is.Equal(s.code, exitUsage))
		assert.Check(t, is.Contains(s.err, "too large"))
		for _, name := range []string{"app//x", "../x", "/x", "app/x#field", "a b"} {
			s := h.tryDSO("/", "x", "secret", "set", name)
			assert.Check(t, is.Equal(s.code, exitUsage), name)
			assert.Check(t, is.Contains(s.err, "not a valid"), name)
		}
		s = h.tryDSO("/", "x", "secret", "set", "app/x", "--file", "/does/not/exist")
		assert.Check(t, is.Equal(s.code, exitError))
		assert.Check(t, is.Contains(s.err, "/does/not/exist"))
	})
}

// A value on the command line would be in every user's process list and in the
// shell's history.
func TestVault_TakesNoValueFromTheCommandLine(t *testing.T) {
	h := sharedHost(t)
	s := h.tryDSO("/", "", "secret", "set", "app/x", "hunter2")
	assert.Check(t, is.Equal(s.code, exitUsage))
	assert.Check(t, !strings.Contains(s.all(), "hunter2"))
	s = h.tryDSO("/", "", "secret", "set", "app/x", "--value", "hunter2")
	assert.Check(t, is.Equal(s.code, exitUsage))
	assert.Check(t, !strings.Contains(s.all(), "hunter2"))
}

func TestVault_ListsWithoutValues(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		defer h.remove("app/listed", "other/listed")
		value := canary()
		h.set("app/listed", "first-"+value)
		h.set("app/listed", value)
		h.set("other/listed", value)
		text := h.dso("secret", "list")
		assert.Check(t, is.Contains(text, "app/listed"))
		assert.Check(t, is.Contains(text, "other/listed"))
		asJSON := h.dso("secret", "list", "--json")
		var rows []struct {
			Name     string
			Versions int
			Size     int
		}
		assert.NilError(t, json.Unmarshal([]byte(asJSON), &rows))
		found := false
		for _, r := range rows {
			if r.Name == "app/listed" {
				found = true
				assert.Check(t, is.Equal(r.Versions, 2))
				assert.Check(t, is.Equal(r.Size, len(value)))
			}
		}
		assert.Check(t, found)
		for _, out := range []string{text, asJSON, h.dso("secret", "history", "app/listed"), h.dso("secret", "history", "app/listed", "--json")} {
			assert.Check(t, !strings.Contains(out, value))
		}
	})
}

func TestVault_RemembersVersionsAndRollsBack(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		// A deleted secret's history goes on when it is set again.
		name := "app/history-" + rand.Text()
		defer h.remove(name)
		for _, value := range []string{"one", "two", "three", "three"} {
			h.set(name, value)
		}
		var versions []struct {
			Version string
			Current bool
			Author  string
		}
		history := func() {
			t.Helper()
			assert.NilError(t, json.Unmarshal([]byte(h.dso("secret", "history", name, "--json")), &versions))
		}
		get := func(args ...string) string { return h.dso(append([]string{"secret", "get", name}, args...)...) }
		history()
		assert.Assert(t, is.Len(versions, 3), "the same value again is no version")
		assert.Check(t, versions[2].Current && !versions[1].Current)
		assert.Check(t, is.Equal(versions[0].Author, "root"))
		assert.Check(t, is.Equal(get("--version", versions[0].Version), "one"))

		h.dso("secret", "rollback", name, "--no-wait")
		assert.Check(t, is.Equal(get(), "two"))
		h.dso("secret", "rollback", name, versions[0].Version, "--no-wait")
		assert.Check(t, is.Equal(get(), "one"))
		history()
		assert.Check(t, is.Len(versions, 5), "a roll back is a new version")

		s := h.tryDSO("/", "", "secret", "rollback", name, "999")
		assert.Check(t, is.Equal(s.code, exitNotFound), s.all())
		s = h.tryDSO("/", "", "secret", "get", name, "--version", "999")
		assert.Check(t, is.Equal(s.code, exitNotFound), s.all())
	})
}

func TestVault_WhatIsNotThereIsNotFound(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		for _, command := range []string{"get", "delete", "history", "rollback"} {
			s := h.tryDSO("/", "", "secret", command, "app/nothing")
			assert.Check(t, is.Equal(s.code, exitNotFound), "%s: %s", command, s.all())
			assert.Check(t, is.Contains(s.err, "dso: error: "), command)
			assert.Check(t, is.Equal(s.out, ""), command)
		}
	})
}

func TestVault_ASecretInUseIsNotDeleted(t *testing.T) {
	h := sharedHost(t)
	h.set("app/used", "x")
	h.run("user-one", sleeper("-e", "V=dso://app/used")...)
	h.docker(append([]string{"create", "--runtime", "dso", "--name", "user-two"}, sleeper("-e", "F=dsofile://app/used#field")...)...)
	s := h.tryDSO("/", "", "secret", "delete", "app/used")
	assert.Check(t, is.Equal(s.code, exitError))
	assert.Check(t, is.Contains(s.err, "is used by"))
	for _, name := range []string{"user-one", "user-two", "--force"} {
		assert.Check(t, is.Contains(s.err, name))
	}
	assert.Check(t, is.Equal(h.dso("secret", "get", "app/used"), "x"))
	h.docker("rm", "-f", "user-one", "user-two")
	h.dso("secret", "delete", "app/used")
	assert.Check(t, is.Equal(h.tryDSO("/", "", "secret", "get", "app/used").code, exitNotFound))
}

func TestVault_ANameWithoutNamespaceIsTheComposeProjects(t *testing.T) {
	vaults(t, func(t *testing.T, h *host) {
		defer h.remove("bazaar/token", "default/token", "named/token")
		dir, err := h.Project("bazaar", "services:\n  a:\n    image: x\n")
		assert.NilError(t, err)
		named, err := h.Project("directory", "name: named\nservices:\n  a:\n    image: x\n")
		assert.NilError(t, err)
		below := filepath.Join(dir, "deep/below")
		assert.NilError(t, os.MkdirAll(below, 0o755))
		for in, value := range map[string]string{dir: "of the project", named: "of the named one", "/": "of none"} {
			s := h.tryDSO(in, value, "secret", "set", "token", "--no-wait")
			assert.Equal(t, s.code, 0, s.all())
		}
		for name, want := range map[string]string{"bazaar/token": "of the project", "named/token": "of the named one", "default/token": "of none"} {
			s := h.tryDSO("/", "", "secret", "get", name)
			assert.Check(t, is.Equal(s.out, want), "%s: %s", name, s.err)
		}
		assert.Check(t, is.Equal(h.tryDSO(below, "", "secret", "get", "token").out, "of the project"))
	})
}

func TestVault_WhatTheCommandLineStoresTheAgentDelivers(t *testing.T) {
	h := sharedHost(t)
	h.killAgent()
	h.set("app/handed", "over")
	h.startAgent()
	h.run("handed", sleeper("-e", "V=dso://app/handed")...)
	assert.Check(t, is.Equal(h.environ("handed")["V"], "over"))
	s := h.tryDSO("/", "", "secret", "set", "app/handed", "--file", "/dev/null")
	assert.Check(t, is.Equal(s.code, exitUsage))
}

func TestPrompt_AsksTwiceWithoutEcho(t *testing.T) {
	h := sharedHost(t)
	value := canary() + " $x"
	set := func(first, second string) (*pty, int) {
		p := onTerminal(t, h.Command(t.Context(), "docker", "dso", "secret", "set", "app/typed", "--no-wait"))
		p.answer(t, "Value of app/typed: ", first)
		p.answer(t, "Once more: ", second)
		return p, p.end(t)
	}
	p, code := set(value, value)
	assert.Check(t, is.Equal(code, 0), p.shown())
	assert.Check(t, !strings.Contains(p.shown(), value), "the terminal showed the value")
	assert.Check(t, is.Equal(h.dso("secret", "get", "app/typed"), value))

	p, code = set("a", "b")
	assert.Check(t, is.Equal(code, exitUsage))
	assert.Check(t, is.Contains(p.shown(), "the two entries differ; nothing was stored"))
	assert.Check(t, is.Equal(h.dso("secret", "get", "app/typed"), value))
}

func TestCommandLine_MistakesAreExplained(t *testing.T) {
	h := sharedHost(t)
	for _, tc := range []struct {
		line, says, hint string
	}{
		{"frobnicate", `unknown command "frobnicate"`, "docker dso --help"},
		{"secret frobnicate", `unknown command "frobnicate"`, "docker dso secret --help"},
		{"secret get", "takes 1 argument", "docker dso secret get"},
		{"secret get a b", "takes 1 argument", "docker dso secret get"},
		{"secret rollback", "takes 1 or 2 arguments", "docker dso secret rollback"},
		{"secret list --frobnicate", "unknown flag: --frobnicate", "docker dso secret list --help"},
		{"--frobnicate", "unknown flag: --frobnicate", "--help"},
		{"status extra", "takes no arguments", "docker dso status"},
	} {
		s := h.tryDSO("/", "", strings.Fields(tc.line)...)
		assert.Check(t, is.Equal(s.code, exitUsage), tc.line)
		assert.Check(t, is.Contains(s.err, "dso: error: "), tc.line)
		assert.Check(t, is.Contains(s.err, tc.says), tc.line)
		assert.Check(t, is.Contains(s.err, tc.hint), tc.line)
		assert.Check(t, is.Equal(strings.Count(s.err, "error:"), 1), "%s: %s", tc.line, s.err)
	}
	for _, line := range []string{"", "--help", "secret", "secret --help", "secret set --help", "version"} {
		s := h.tryDSO("/", "", strings.Fields(line)...)
		assert.Check(t, is.Equal(s.code, 0), line)
		assert.Check(t, s.out != "", line)
	}
}

func TestCommandLine_WithoutAnAgentItSaysSo(t *testing.T) {
	h := sharedHost(t)
	h.killAgent()
	for _, line := range []string{"status", "plan", "rotations", "rotate app/x"} {
		s := h.tryDSO("/", "", strings.Fields(line)...)
		assert.Check(t, is.Equal(s.code, exitNoAgent), line)
		assert.Check(t, is.Contains(s.err, "no agent is running"), line)
		assert.Check(t, is.Contains(s.err, "dso: hint: start it"), line)
	}
	s := h.tryDSO("/", "", "status", "--json")
	assert.Check(t, is.Equal(s.code, exitNoAgent))
	var st struct {
		AgentReached bool   `json:"agent_reached"`
		AgentError   string `json:"agent_error"`
	}
	assert.NilError(t, json.Unmarshal([]byte(s.out), &st))
	assert.Check(t, !st.AgentReached && st.AgentError != "")
	s = h.tryDSO("/", "x", "secret", "set", "app/waits")
	defer h.remove("app/waits")
	assert.Check(t, is.Equal(s.code, 0))
	assert.Check(t, is.Contains(s.out, "no agent is running: what uses the secret changes over when one starts"))
}

// The socket's group may look after secrets without seeing them.
func TestCommandLine_OtherUsersAreDenied(t *testing.T) {
	h := ownHost(t)
	group, err := os.OpenFile(h.HostPath("/etc/group"), os.O_APPEND|os.O_WRONLY, 0)
	assert.NilError(t, err)
	_, err = group.WriteString("dso:x:4242:\n")
	assert.NilError(t, err)
	assert.NilError(t, group.Close())
	h.startAgent()
	h.dso("init")
	h.set("app/kept", "hidden")
	// The program under its own name, as another user.
	as := func(gid, stdin string, args ...string) said {
		line := []string{"--reuid=4711", "--regid=" + gid, "--clear-groups", "bash", "-c", `exec -a dso "$0" "$@"`, filepath.Join(repository(t), "bin/docker-dso")}
		return h.try(h.Command(t.Context(), "setpriv", append(line, args...)...), stdin)
	}
	for _, args := range [][]string{{"status"}, {"secret", "list"}, {"secret", "get", "app/kept"}, {"secret", "set", "app/kept"}} {
		s := as("4711", "x", args...)
		assert.Check(t, is.Equal(s.code, exitDenied), "%v: %s", args, s.all())
		assert.Check(t, is.Contains(s.err, "dso: hint: run it as root, or become a member of the group dso"))
	}
	s := as("4242", "", "status")
	assert.Check(t, is.Equal(s.code, 0), s.all())
	s = as("4242", "new", "secret", "set", "app/kept", "--no-wait")
	assert.Check(t, is.Equal(s.code, 0), s.all())
	s = as("4242", "", "secret", "get", "app/kept")
	assert.Check(t, is.Equal(s.code, exitDenied), s.all())
	assert.Check(t, is.Equal(s.out, ""))
	s = as("4242", "", "init")
	assert.Check(t, is.Equal(s.code, exitDenied), s.all())
	assert.Check(t, is.Contains(h.dso("secret", "history", "app/kept"), "4711"), "who set it")
}
