package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/cli"
)

const canary = "hunter2"

// run runs a command as the terminal does, and returns its output and exit code.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errw bytes.Buffer
	cmd := cli.New(strings.NewReader(""), &out, &errw, false)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if err != nil {
		cli.PrintError(&errw, err)
	}
	return out.String(), errw.String(), cli.ExitCode(err)
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dso.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

const good = `version: 1
providers:
  local: {type: local}
  v: {type: vault, config: {address: "https://x"}, auth: {params: {token: hunter2}}}
`

func TestConfigShow_HasTheDefaultsAndNoCredential(t *testing.T) {
	path := configFile(t, good)
	out, _, code := run(t, "-c", path, "config", "show")
	assert.Equal(t, code, cli.ExitOK)
	assert.Assert(t, strings.Contains(out, "polling_interval: 1m0s"), out)
	assert.Assert(t, strings.Contains(out, "[redacted]") && !strings.Contains(out, canary), out)

	out, _, code = run(t, "config", "show", "--json", "--config", path)
	assert.Equal(t, code, cli.ExitOK)
	var doc map[string]any
	assert.NilError(t, json.Unmarshal([]byte(out), &doc))
	assert.Assert(t, !strings.Contains(out, canary))
}

func TestConfigShow_WithoutAFileShowsTheDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := os.Stat("/etc/dso/dso.yaml"); err == nil {
		t.Fatal("this host has a configuration of its own")
	}
	out, _, code := run(t, "config", "show")
	assert.Equal(t, code, cli.ExitOK)
	assert.Assert(t, strings.Contains(out, "mode: local"), out)
	_, stderr, code := run(t, "config", "validate")
	assert.Equal(t, code, cli.ExitError)
	assert.Assert(t, strings.Contains(stderr, "dso: hint: name a file with -c"), stderr)
}

func TestConfigValidate_TellsEveryProblem(t *testing.T) {
	out, _, code := run(t, "-c", configFile(t, good), "config", "validate")
	assert.Equal(t, code, cli.ExitOK)
	assert.Assert(t, strings.HasSuffix(out, "is valid (providers besides the local vault: 1)\n"), out)

	elsewhere := configFile(t, "providers: {own: {type: exec, config: {program: /nowhere/own}}}\n")
	_, stderr, code := run(t, "-c", elsewhere, "config", "validate")
	assert.Equal(t, code, cli.ExitOK)
	assert.Assert(t, strings.HasPrefix(stderr, "dso: warning: "+elsewhere+":1:"), stderr)
	assert.Assert(t, strings.Contains(stderr, "this host has no /nowhere/own"), stderr)
	out, stderr, code = run(t, "-c", elsewhere, "config", "validate", "--json")
	assert.Equal(t, code, cli.ExitOK)
	assert.Equal(t, stderr, "")
	assert.Assert(t, strings.Contains(out, `"warnings": [`), out)

	bad := configFile(t, good+"zzz: 1\nmod: agent\n")
	_, stderr, code = run(t, "-c", bad, "config", "validate")
	assert.Equal(t, code, cli.ExitError)
	assert.Assert(t, strings.Contains(stderr, bad+":5:1: unknown key `zzz`"), stderr)
	assert.Assert(t, strings.Contains(stderr, bad+":6:1: unknown key `mod`, did you mean `mode`?"), stderr)

	out, stderr, code = run(t, "-c", bad, "config", "validate", "--json")
	assert.Equal(t, code, cli.ExitError)
	assert.Equal(t, stderr, "")
	var report struct {
		File     string
		Valid    bool
		Problems []struct {
			Line, Column int
			Message      string
		}
	}
	assert.NilError(t, json.Unmarshal([]byte(out), &report))
	assert.Equal(t, report.File, bad)
	assert.Equal(t, len(report.Problems), 2)
	assert.Equal(t, report.Problems[1].Line, 6)

	_, stderr, code = run(t, "-c", filepath.Join(t.TempDir(), "none.yaml"), "config", "validate")
	assert.Equal(t, code, cli.ExitError)
	assert.Assert(t, strings.Contains(stderr, "none.yaml: no such file"), stderr)

	out, _, code = run(t, "config", "validate", configFile(t, good))
	assert.Equal(t, code, cli.ExitOK)
	assert.Assert(t, strings.Contains(out, "is valid"), out)
	_, stderr, code = run(t, "-c", bad, "config", "validate", bad)
	assert.Equal(t, code, cli.ExitUsage)
	assert.Assert(t, strings.Contains(stderr, "named twice"), stderr)
}

func TestConfigEdit_TakesWhatIsValidAndNothingElse(t *testing.T) {
	path := configFile(t, good)
	assert.NilError(t, os.Chmod(path, 0o640))
	leftover := func() bool { _, err := os.Stat(path + ".edit"); return err == nil }

	t.Setenv("VISUAL", `sed -i s/type:.vault/type:\ vualt/`)
	_, errw, code := run(t, "-c", path, "config", "edit")
	assert.Equal(t, code, cli.ExitError)
	assert.Assert(t, strings.Contains(errw, path+":4:") && strings.Contains(errw, "did you mean `vault`") && strings.Contains(errw, "is unchanged"), errw)
	text, err := os.ReadFile(path)
	assert.NilError(t, err)
	assert.Equal(t, string(text), good)
	assert.Assert(t, !leftover())

	t.Setenv("VISUAL", `sed -i s,https://x,https://y,`)
	out, errw, code := run(t, "-c", path, "config", "edit")
	assert.Equal(t, code, cli.ExitOK, errw)
	assert.Assert(t, strings.Contains(out, "is changed"), out)
	text, err = os.ReadFile(path)
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(text), "https://y"), string(text))
	info, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o640))

	t.Setenv("VISUAL", "true")
	out, _, _ = run(t, "-c", path, "config", "edit")
	assert.Assert(t, strings.Contains(out, "nothing changed"), out)
	t.Setenv("VISUAL", "false")
	_, errw, code = run(t, "-c", path, "config", "edit")
	assert.Assert(t, code == cli.ExitError && strings.Contains(errw, "run the editor false"), errw)
	assert.NilError(t, os.WriteFile(path+".edit", nil, 0o600))
	_, errw, _ = run(t, "-c", path, "config", "edit")
	assert.Assert(t, strings.Contains(errw, "somebody else edits"), errw)
}

func TestValidate_TellsEveryProblemWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "compose.yaml")
	report := func(text string) map[string]string {
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o600))
		out, _, code := run(t, "validate", "--offline", "--json")
		assert.Equal(t, code, cli.ExitError)
		var v struct {
			Problems []struct{ Where, Text string }
		}
		assert.NilError(t, json.Unmarshal([]byte(out), &v))
		places := map[string]string{}
		for _, p := range v.Problems {
			places[p.Where] += p.Text + "; "
		}
		return places
	}
	places := report("services: {web: {image: a, environment: {A: \"dso://a//b\"}, labels: {dso.health.timeout: soon, dso.drain.timeout: 10}}}")
	assert.Equal(t, len(places), 2, "%v", places)
	assert.Assert(t, strings.Contains(places["service web, variable A"], "empty segment"), "%v", places)
	assert.Equal(t, places["service web"], `label dso.drain.timeout="10" is not a duration such as 30s; label dso.health.timeout="soon" is not a duration such as 30s; `)
	places = report("services: {web: 5}")
	assert.Equal(t, len(places), 1)
	assert.Assert(t, places[file] != "", "%v", places)
}
