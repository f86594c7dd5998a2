package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"
)

// canary stands in the environment and in credentials, and nowhere in what is
// printed.
const canary = "hunter2"

func env(name string) (string, bool) {
	v, ok := map[string]string{
		"TOKEN": canary, "SECRET_ID": canary, "TENANT": canary, "EMPTY": "",
		"STRUCTURE": canary + "\n\": }\nproviders: {x: y}\n'",
	}[name]
	return v, ok
}

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return decode("dso.yaml", []byte(text), nil, env)
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	assert.NilError(t, err)
	assert.Assert(t, len(found) > 2)
	out := map[string][]byte{}
	for _, f := range found {
		out[strings.TrimSuffix(filepath.Base(f), ".yaml")], err = os.ReadFile(f)
		assert.NilError(t, err)
	}
	return out
}

func TestLoad_TellsEveryProblemWithItsLine(t *testing.T) {
	for name, text := range files(t, "rejected") {
		t.Run(name, func(t *testing.T) {
			_, err := decode(name+".yaml", text, nil, env)
			assert.Assert(t, err != nil)
			assert.Assert(t, !strings.Contains(err.Error(), canary), "%v", err)
			golden.Assert(t, err.Error()+"\n", filepath.Join("rejected", name+".txt"))
		})
	}
}

func TestLoad_AcceptsWhatIsDocumented(t *testing.T) {
	for name, text := range files(t, "accepted") {
		t.Run(name, func(t *testing.T) {
			c, err := decode(name+".yaml", text, nil, env)
			assert.NilError(t, err)
			shown, err := c.Show()
			assert.NilError(t, err)
			assert.Assert(t, !strings.Contains(string(shown)+fmt.Sprintf("%v %+v %#v", c, c, c), canary))
			golden.Assert(t, string(shown), filepath.Join("accepted", name+".txt"))
			asJSON, err := c.ShowJSON()
			assert.NilError(t, err)
			assert.Assert(t, !strings.Contains(string(asJSON), canary))
		})
	}
}

const shipped = "../../packaging/dso.yaml"

func TestShippedExample_Loads(t *testing.T) {
	text, err := os.ReadFile(shipped)
	assert.NilError(t, err)
	_, err = load(t, string(text))
	assert.NilError(t, err)
}

// What stands in the example as a comment is an example too.
func TestShippedExample_LoadsWithEverythingUncommented(t *testing.T) {
	text, err := os.ReadFile(shipped)
	assert.NilError(t, err)
	text = regexp.MustCompile(`(?m)^( *)# ( *[a-z_]+:( |$))`).ReplaceAll(text, []byte("$1$2"))
	c, err := decode("dso.yaml", text, nil, func(string) (string, bool) { return "set to something long", true })
	var problems *Error
	if ok := asError(err, &problems); ok && len(problems.Problems) == 1 {
		// The one thing that is not there is the file with the credential.
		assert.Assert(t, strings.Contains(err.Error(), "/etc/dso/vault-secret-id"), "%v", err)
		return
	}
	assert.NilError(t, err)
	assert.Equal(t, len(c.Providers), 4)
}

// The examples of the documentation are loaded, and each type has a section.
func TestDocumentation_ItsExamplesLoad(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	seen := map[string]bool{"local": true}
	for _, page := range []string{"configuration.md", "providers.md"} {
		text, err := os.ReadFile("../../docs/reference/" + page)
		assert.NilError(t, err)
		found := blocks.FindAllStringSubmatch(string(text), -1)
		assert.Assert(t, len(found) > 0, page)
		for _, b := range found {
			c, err := decode(page, []byte(b[1]), nil, func(string) (string, bool) { return "set", true })
			assert.NilError(t, err, b[1])
			for _, p := range c.Providers {
				seen[p.Type] = true
			}
		}
		if page == "providers.md" {
			for _, kind := range Types() {
				assert.Assert(t, seen[kind] && strings.Contains(string(text), "\n## "+kind+"\n"), "no section or example: %s", kind)
			}
		}
	}
}

func asError(err error, to **Error) bool {
	e, ok := err.(*Error) //nolint:errorlint // decode returns it as it is
	*to = e
	return ok
}

func TestVariable_CannotChangeTheStructure(t *testing.T) {
	c, err := load(t, "providers:\n  a:\n    type: exec\n    config: {program: /x, env: {X: \"${STRUCTURE}\"}}\n")
	assert.NilError(t, err)
	assert.Equal(t, len(c.Providers), 1)
	value, err := c.Providers["a"].Config.(*Exec).Env["X"].Read()
	assert.NilError(t, err)
	want, _ := env("STRUCTURE")
	assert.Equal(t, string(value.Reveal()), want)
}

// A file may be checked where the agent does not run.
func TestLoad_WhatTheHostDoesNotHaveIsAWarning(t *testing.T) {
	there, dir := write(t, "", 0o700), t.TempDir()
	for config, want := range map[string]string{
		"type: exec, config: {program: " + dir + "}":                                    "config.program`: " + dir + " is not a file, name a program",
		"type: exec, config: {program: " + write(t, "", 0o600) + "}":                    "cannot be executed, chmod +x ",
		"type: file, config: {dir: " + there + "}":                                      "config.dir`: " + there + " is not a directory, name a directory",
		"type: http, config: {url: 'https://x/{path}', tls: {ca_file: " + dir + "/ca}}": "config.tls.ca_file`: this host has no " + dir + "/ca, the agent needs it there",
	} {
		c, err := load(t, "providers:\n  a: {"+config+"}\n")
		assert.NilError(t, err)
		assert.Equal(t, len(c.Warnings), 1, config)
		assert.Assert(t, strings.Contains(c.Warnings[0].String(), want), c.Warnings[0].String())
	}
	text := "providers:\n  a: {type: exec, config: {program: %s}}\n"
	c, err := load(t, fmt.Sprintf(text, there))
	assert.NilError(t, err)
	assert.Equal(t, len(c.Warnings), 0)
	c, err = load(t, fmt.Sprintf(text, there+"-none"))
	assert.NilError(t, err)
	assert.Equal(t, len(c.Warnings), 1)
	assert.Equal(t, c.Warnings[0].String(), "dso.yaml:2:28: `providers.a.config.program`: this host has no "+there+"-none, the agent needs it there")
}

func TestLoad_TwoEntriesForOneVariableIsAWarning(t *testing.T) {
	const first = "secrets:\n  - {name: app/db, targets: {containers: [shop/web]}}\n"
	for second, warned := range map[string]bool{
		"{name: app_db, targets: {containers: [shop/api, shop/web]}}":                                    true,
		"{name: app/other, targets: {containers: [shop/web]}, mappings: {APP_DB: local/app/other#pass}}": true,
		"{name: app_db, targets: {containers: ['shop/*']}}":                                              false, // a rule and its exception
		"{name: app/db, targets: {containers: [shop/web]}, rotation: {enabled: false}}":                  false, // the same
		"{name: app/other, targets: {containers: [shop/web]}}":                                           false,
		"{name: app_db, targets: {labels: {app: web}}}":                                                  false,
	} {
		c, err := load(t, first+"  - "+second+"\n")
		assert.NilError(t, err)
		if !warned {
			assert.Equal(t, len(c.Warnings), 0, second)
			continue
		}
		assert.Equal(t, len(c.Warnings), 1, second)
		assert.Equal(t, c.Warnings[0].String(), "dso.yaml:3:5: `secrets[1]` gives `APP_DB`, which `secrets[0]` gives to the same containers already, the first one counts; give one of them another variable in `mappings`")
	}
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "$": "$", "$x$$y": "$x$$y", "${TOKEN}": canary, "a${TOKEN}b": "a" + canary + "b",
		"$${TOKEN}": "${TOKEN}", "${NOPE:-x y}": "x y", "${EMPTY:-x}": "x", "${EMPTY}": "", "${NOPE:-}": "", "": "",
		"pa$$${TOKEN}": "pa$${TOKEN}",
	} {
		got, _, err := expand(in, env)
		assert.NilError(t, err, in)
		assert.Equal(t, got, want, in)
	}
}

func TestCredential_ComesFromAFileOrSystemd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bao")
	assert.NilError(t, os.WriteFile(path, []byte(canary+"\n"), 0o600))
	inDir := func(name string) (string, bool) { return dir, name == "CREDENTIALS_DIRECTORY" }
	for key, value := range map[string]string{"token_file": path, "token_credential": "bao"} {
		text := fmt.Sprintf("providers: {v: {type: vault, config: {address: 'https://x'}, auth: {params: {%s: %q}}}}", key, value)
		c, err := decode("dso.yaml", []byte(text), nil, inDir)
		assert.NilError(t, err)
		token := c.Providers["v"].Auth.Params.(*Token).Token
		got, err := token.Read()
		assert.NilError(t, err)
		assert.Equal(t, string(got.Reveal()), canary)
		shown, err := c.Show()
		assert.NilError(t, err)
		assert.Assert(t, strings.Contains(string(shown), "token_file: "+path), "%s", shown)

		assert.NilError(t, os.WriteFile(path, []byte("another\n"), 0o600))
		got, err = token.Read()
		assert.NilError(t, err)
		assert.Equal(t, string(got.Reveal()), "another", "a file is read again")
		assert.NilError(t, os.WriteFile(path, []byte(canary+"\n"), 0o600))
	}

	for _, bad := range []string{"../bao", "a/b", "", "."} {
		_, err := decode("dso.yaml", []byte(fmt.Sprintf("providers: {v: {type: vault, config: {address: 'https://x'}, auth: {params: {token_credential: %q}}}}", bad)), nil, inDir)
		assert.ErrorContains(t, err, "must be the name of a credential")
	}
	assert.NilError(t, os.Chmod(path, 0o644))
	_, err := decode("dso.yaml", []byte(fmt.Sprintf("providers: {v: {type: vault, config: {address: 'https://x'}, auth: {params: {token_file: %q}}}}", path)), nil, inDir)
	assert.ErrorContains(t, err, path+" holds a credential and has mode 0644")
	assert.ErrorContains(t, err, "chmod o-rwx "+path)
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dso.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	assert.NilError(t, os.Chmod(path, mode))
	return path
}

// An agent without systemd reads the files that the unit makes credentials of.
func TestCredential_IsTheFileItselfWithoutSystemd(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	path, err := credentialPath(suffixCredential, "dso_vault", none)
	assert.NilError(t, err)
	assert.Equal(t, path, "/etc/dso/credentials/vault")
	for _, name := range []string{"vault", "dso_"} {
		_, err = credentialPath(suffixCredential, name, none)
		assert.ErrorContains(t, err, "needs systemd")
	}
}

func TestLoad_RefusesAReadableFileWithAToken(t *testing.T) {
	const with = "version: 1\nproviders:\n  v: {type: vault, config: {address: 'https://x'}, auth: {params: {token: %s}}}\n"
	path := write(t, fmt.Sprintf(with, canary), 0o644)
	_, err := Load(path)
	assert.Error(t, err, path+":3:75: `providers.v.auth.params.token` is a credential and every user of this host can read the file (mode 0644), chmod o-rwx "+path)
	assert.NilError(t, os.Chmod(path, 0o640))
	_, err = Load(path)
	assert.NilError(t, err)

	t.Setenv("DSO_TEST_TOKEN", canary)
	_, err = Load(write(t, fmt.Sprintf(with, "'${DSO_TEST_TOKEN}'"), 0o644))
	assert.NilError(t, err, "the file holds no token")
	_, err = Load(write(t, fmt.Sprintf(with, "'${DSO_TEST_TOKEN:-hunter2}'"), 0o644))
	assert.NilError(t, err, "the default was not used")
	_, err = Load(write(t, fmt.Sprintf(with, "'a${DSO_TEST_TOKEN}'"), 0o644))
	assert.ErrorContains(t, err, "is a credential")
	_, err = Load(write(t, "version: 1\n", 0o646))
	assert.ErrorContains(t, err, "can write the file (mode 0646)")
}

func TestLoad_WhatIsNoFileIsSaidSo(t *testing.T) {
	_, err := Load(t.TempDir())
	assert.ErrorContains(t, err, "is not a regular file")
	_, err = Load(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Load(write(t, "version: 1 #"+strings.Repeat("x", maxFile), 0o600))
	assert.ErrorContains(t, err, "longer than")
}

func TestLoad_RefusesAReadableKey(t *testing.T) {
	key := write(t, "key", 0o644)
	text := "providers: {v: {type: http, config: {url: 'https://x/{path}', tls: {cert_file: /c, key_file: " + key + "}}}}\n"
	_, err := load(t, text)
	assert.ErrorContains(t, err, "chmod o-rwx "+key)
	assert.NilError(t, os.Chmod(key, 0o640))
	_, err = load(t, text)
	assert.NilError(t, err)
}

func TestShow_HidesTheQueryOfAnAddress(t *testing.T) {
	c, err := load(t, "providers: {v: {type: http, config: {url: 'https://x/{path}?key="+canary+"'}}}\n")
	assert.NilError(t, err)
	shown, err := c.Show()
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(shown), "https://x/{path}?[redacted]") && !strings.Contains(string(shown), canary), "%s", shown)
}

func TestFind_AnExplicitPathAlwaysWins(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	system := filepath.Join(dir, "etc.yaml")
	_, err := find("", system)
	assert.ErrorIs(t, err, ErrNone)
	assert.NilError(t, os.WriteFile(LocalFile, nil, 0o600))
	got, err := find("", system)
	assert.NilError(t, err)
	assert.Equal(t, got, filepath.Join(dir, LocalFile))
	assert.NilError(t, os.WriteFile(system, nil, 0o600))
	got, err = find("", system)
	assert.NilError(t, err)
	assert.Equal(t, got, system)
	got, err = find("missing.yaml", system)
	assert.NilError(t, err)
	assert.Equal(t, got, filepath.Join(dir, "missing.yaml"), "also one that is not there")
}

func TestDefault_IsTheEmptyConfiguration(t *testing.T) {
	c := Default()
	assert.Equal(t, c.Agent.Watch.PollingInterval, time.Minute)
	assert.Equal(t, c.Logging.Level, "info")
	assert.Equal(t, len(c.Providers), 0)
}

func TestAliases_DoNotMakeAFileLarge(t *testing.T) {
	text := "providers:\n  a: &a {type: http, config: {url: 'https://x/{path}', headers: &h {"
	for i := range 500 {
		text += fmt.Sprintf("k%d: v, ", i)
	}
	text += "}}}\n"
	for i := range 500 {
		text += fmt.Sprintf("  p%d: *a\n", i)
	}
	_, err := load(t, text)
	assert.ErrorContains(t, err, "the file is too large")
}

func TestSchema_IsTheGeneratedOne(t *testing.T) {
	s, err := Schema()
	assert.NilError(t, err)
	golden.Assert(t, string(s), "../../../docs/reference/dso.schema.json")
}

// The schema and the loader agree on every file of testdata, apart from what a
// schema cannot know.
func TestSchema_AgreesWithTheLoader(t *testing.T) {
	text, err := Schema()
	assert.NilError(t, err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	assert.NilError(t, err)
	compiler := jsonschema.NewCompiler()
	assert.NilError(t, compiler.AddResource("dso.schema.json", doc))
	schema, err := compiler.Compile("dso.schema.json")
	assert.NilError(t, err)
	valid := func(text []byte) error {
		var v any
		assert.NilError(t, yaml.Unmarshal(text, &v))
		return schema.Validate(v)
	}
	for name, text := range files(t, "accepted") {
		assert.NilError(t, valid(text), name)
	}
	example, err := os.ReadFile(shipped)
	assert.NilError(t, err)
	assert.NilError(t, valid(example))
	for name, text := range files(t, "rejected") {
		switch name {
		case "tab", "not-utf8", "control-character", "unclosed", "anchor", "duplicates", "yaml-extras", "empty", "two-documents", "variables", "mode-local", "window-half", "windows", "webhook-empty", "rest-open", "rest-twice", "rest-address", "strict-nobody", "unknown-store", "header-characters", "signal-variable", "window-short":
			continue // not a matter of a schema
		}
		assert.Assert(t, valid(text) != nil, name)
	}
}

func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"accepted", "rejected"} {
		found, _ := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		for _, name := range found {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decode("dso.yaml", text, nil, env)
		if err != nil {
			for _, p := range err.(*Error).Problems { //nolint:errorlint // decode returns it as it is
				if p.Text == "" || p.Line < 0 || p.Line > 0 && p.Column < 1 {
					t.Fatalf("%#v", p)
				}
			}
			return
		}
		shown, err := c.Show()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(shown), canary) && !strings.Contains(string(text), canary) {
			t.Fatalf("%s", shown)
		}
	})
}
