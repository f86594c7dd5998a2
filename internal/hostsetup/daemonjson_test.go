package hostsetup

import (
	"encoding/json"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"pgregory.net/rapid"
)

var ours = Registration{Path: "/usr/bin/dso-runtime"}

func TestRegister_KeepsWhatIsThere(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"no file": {"", `{
  "runtimes": {"dso": {"path": "/usr/bin/dso-runtime"}}
}
`},
		"an empty object": {"{}\n", `{"runtimes": {"dso": {"path": "/usr/bin/dso-runtime"}}}
`},
		"other settings, with tabs": {"{\n\t\"debug\": true,\n\t\"log-level\" : \"warn\"\n}\n", `{
	"debug": true,
	"log-level" : "warn",
	"runtimes": {"dso": {"path": "/usr/bin/dso-runtime"}}
}
`},
		"other runtimes": {`{
    "default-runtime": "nvidia",
    "runtimes": {
        "nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}
    }
}`, `{
    "default-runtime": "nvidia",
    "runtimes": {
        "nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []},
        "dso": {"path": "/usr/bin/dso-runtime"}
    }
}
`},
		"comments": {`{
  // production
  "live-restore": true, /* yes */
  "icc": false // no
}
`, `{
  // production
  "live-restore": true, /* yes */
  "icc": false, // no
  "runtimes": {"dso": {"path": "/usr/bin/dso-runtime"}}
}
`},
		"another path, and arguments": {`{"runtimes": {"dso": {"path": "/opt/dso-runtime", "runtimeArgs": ["--dso-deadline=5s"]}}}
`, `{"runtimes": {"dso": {"path": "/usr/bin/dso-runtime", "runtimeArgs": ["--dso-deadline=5s"]}}}
`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := register([]byte(c.before), ours)
			assert.NilError(t, err)
			assert.Equal(t, string(got), c.after)
			again, err := register(got, ours)
			assert.NilError(t, err)
			assert.Equal(t, string(again), c.after, "a second time changes nothing")
		})
	}
}

func TestRegister_AsDefaultRuntime(t *testing.T) {
	got, err := register([]byte("{\n  \"debug\": true\n}\n"), Registration{Path: "/usr/bin/dso-runtime", Default: true})
	assert.NilError(t, err)
	assert.Equal(t, string(got), `{
  "debug": true,
  "runtimes": {"dso": {"path": "/usr/bin/dso-runtime"}},
  "default-runtime": "dso"
}
`)
	back, err := unregister(got)
	assert.NilError(t, err)
	assert.Equal(t, string(back), "{\n  \"debug\": true\n}\n")
}

func TestRegister_RefusesWhatTheEngineCouldNotReadEither(t *testing.T) {
	for _, bad := range []string{"{", "[]", `{"runtimes": []}`, `{"runtimes": {"dso": "x"}}`, "nonsense"} {
		_, err := register([]byte(bad), ours)
		assert.Assert(t, err != nil, bad)
	}
}

// An engine that reads a file without the keys would keep what it knew.
func TestForget_NamesTheKeysAndNotTheRuntime(t *testing.T) {
	got, err := forget([]byte("{\n  \"debug\": true\n}\n"))
	assert.NilError(t, err)
	assert.Equal(t, string(got), "{\n  \"debug\": true,\n  \"runtimes\": {},\n  \"default-runtime\": \"runc\"\n}\n")
	got, err = forget([]byte(`{"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "n"}, "dso": {"path": "/usr/bin/dso-runtime"}}}`))
	assert.NilError(t, err)
	assert.Equal(t, string(got), `{"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "n"}}}`+"\n")
}

// Whatever was in the file means the same afterwards, and again when ours is taken out.
func TestRegister_ChangesNoOtherSetting(t *testing.T) {
	keys := []string{"debug", "log-level", "insecure-registries", "live-restore", "data-root", "log-opts"}
	rapid.Check(t, func(t *rapid.T) {
		before := map[string]any{}
		for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom(keys), rapid.ID).Draw(t, "keys") {
			before[key] = rapid.SampledFrom([]any{true, "text", 1.5, []any{"a", "b"}, map[string]any{"x": "y"}}).Draw(t, key)
		}
		indent := rapid.SampledFrom([]string{"", " ", "  ", "\t"}).Draw(t, "indent")
		text, err := json.Marshal(before)
		if indent != "" {
			text, err = json.MarshalIndent(before, "", indent)
		}
		assert.NilError(t, err)
		with, err := register(text, Registration{Path: "/usr/bin/dso-runtime", Default: rapid.Bool().Draw(t, "default")})
		assert.NilError(t, err)
		without, err := unregister(with)
		assert.NilError(t, err)
		var got map[string]any
		assert.NilError(t, json.Unmarshal(without, &got))
		assert.DeepEqual(t, got, before)
		assert.Equal(t, strings.TrimSpace(string(without)), strings.TrimSpace(string(text)))
	})
}

func FuzzRegister(f *testing.F) {
	f.Add([]byte(`{"runtimes": {"nvidia": {"path": "n"}}, /* c */ "debug": true}`))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, content []byte) {
		with, err := register(content, ours)
		if err != nil {
			return
		}
		have, err := readRegistered(with)
		if err != nil || have.Runtimes[RuntimeName].Path != ours.Path {
			t.Fatalf("%q became %q: %v", content, with, err)
		}
		if _, err := unregister(with); err != nil {
			t.Fatal(err)
		}
	})
}
