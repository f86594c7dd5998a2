package ociruntime

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/target"
)

// bundleJSON is a shortened bundle of the engine's, with members that no version
// of the specification knows.
const bundleJSON = `{
  "ociVersion": "1.1.0", "future": {"n": 18446744073709551615, "f": 1.0, "s": "a<b>&\u00e9"},
  "process": {
    "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]}, "args": ["sh", "-c", "echo $DB"],
    "env": ["PATH=/bin", "DB=dso://app/db", "URL=x?r=dso://app/db", "KEY=dsofile://app/key", "EMPTY=", "BARE"],
    "cwd": "/", "oomScoreAdj": -500, "capabilities": {"bounding": ["CAP_CHOWN"]}
  },
  "root": {"path": "rootfs", "readonly": true},
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/etc/hosts", "source": "/x/c1/hosts", "options": ["rbind"], "uidMappings": []}],
  "linux": {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}], "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"}}
}`

func bundle(t *testing.T) object {
	t.Helper()
	var o object
	assert.NilError(t, json.Unmarshal([]byte(bundleJSON), &o))
	return o
}

// generic decodes JSON without losing a digit.
func generic(t *testing.T, data []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v map[string]any
	assert.NilError(t, d.Decode(&v))
	return v
}

func TestRewriteBundle_ChangesTheReferencesAddsTheMountAndNothingElse(t *testing.T) {
	got, err := rewriteBundle(bundle(t), "/run/b", wire.DeliverResponse{
		Env:      map[string][]byte{"DB": []byte("p$w\"\\\n<é>"), "KEY": []byte("/run/secrets/dso/app/key"), "PATH": []byte("not a reference")},
		FilesDir: "/run/dso/private/files/c1",
	})
	assert.NilError(t, err)
	want := generic(t, []byte(bundleJSON))
	want["process"].(map[string]any)["env"] = []any{"PATH=/bin", "DB=p$w\"\\\n<é>", "URL=x?r=dso://app/db", "KEY=/run/secrets/dso/app/key", "EMPTY=", "BARE"}
	want["root"].(map[string]any)["path"] = "/run/b/rootfs"
	want["mounts"] = append(want["mounts"].([]any), map[string]any{
		"destination": "/run/secrets/dso", "type": "bind", "source": "/run/dso/private/files/c1",
		"options": []any{"rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"},
	})
	assert.DeepEqual(t, generic(t, got), want)
}

func TestRewriteBundle_ShowsAFileElsewhereAfterTheOthers(t *testing.T) {
	got, err := rewriteBundle(bundle(t), "/run/b", wire.DeliverResponse{
		Env: map[string][]byte{"DB": nil, "KEY": nil}, FilesDir: "/private/c1",
		Mounts: map[string]string{"/etc/b": "/private/c1/..data/b", "/etc/a": "/private/c1/..data/a"},
	})
	assert.NilError(t, err)
	var added []string
	for _, m := range generic(t, got)["mounts"].([]any)[2:] {
		added = append(added, m.(map[string]any)["destination"].(string)+" "+m.(map[string]any)["source"].(string))
		assert.DeepEqual(t, m.(map[string]any)["options"], []any{"rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"})
	}
	assert.DeepEqual(t, added, []string{"/run/secrets/dso /private/c1", "/etc/a /private/c1/..data/a", "/etc/b /private/c1/..data/b"})
}

func TestRewriteBundle_WithoutFilesAddsNoMount(t *testing.T) {
	got, err := rewriteBundle(bundle(t), "/run/b", wire.DeliverResponse{Env: map[string][]byte{"DB": nil, "KEY": nil}})
	assert.NilError(t, err)
	assert.DeepEqual(t, generic(t, got)["mounts"], generic(t, []byte(bundleJSON))["mounts"])
}

func TestRewriteBundle_AnswerThatLacksAVariableIsRefused(t *testing.T) {
	_, err := rewriteBundle(bundle(t), "/run/b", wire.DeliverResponse{Env: map[string][]byte{"DB": []byte("x")}})
	assert.ErrorContains(t, err, "lacks variable KEY")
}

func TestContainer_TellsWhoIsAsking(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c1")
	assert.NilError(t, os.Mkdir(dir, 0o755))
	record := `{"Name": "/shop-web-1", "Config": {"Labels": {"com.docker.compose.project": "shop"}}}`
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "config.v2.json"), []byte(record), 0o600))
	var o object
	assert.NilError(t, json.Unmarshal([]byte(strings.ReplaceAll(bundleJSON, "/x/c1", dir)), &o))
	got, err := container(o, "c1", target.Rules{})
	assert.NilError(t, err)
	assert.DeepEqual(t, got, wire.DeliverRequest{
		ContainerID: "c1", Name: "shop-web-1", Project: "shop",
		References: []wire.Reference{{Variable: "DB", Ref: "dso://app/db"}, {Variable: "KEY", Ref: "dsofile://app/key"}},
		UID:        101000, GID: 1000,
		UIDMap: []wire.IDMap{{HostID: 100000, Size: 65536}},
	})
}

func TestContainer_IsGivenWhatTheTargetsSay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c1")
	assert.NilError(t, os.Mkdir(dir, 0o755))
	record := `{"Name": "/web_dso_new_1700000000", "Config": {"Labels": {"tier": "front"}}}`
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "config.v2.json"), []byte(record), 0o600))
	var o object
	assert.NilError(t, json.Unmarshal([]byte(strings.ReplaceAll(bundleJSON, "/x/c1", dir)), &o))
	rules := target.Rules{Rules: []target.Rule{
		{Containers: []string{"web"}, References: []target.Reference{{Variable: "DB", Ref: "dso://vault/db"}, {Variable: "NEW", Ref: "dso://vault/new"}}},
		{Containers: []string{"other"}, References: []target.Reference{{Variable: "NOT", Ref: "dso://vault/not"}}},
	}}
	got, err := container(o, "c1", rules)
	assert.NilError(t, err)
	assert.DeepEqual(t, got.References, []wire.Reference{
		{Variable: "KEY", Ref: "dsofile://app/key"},
		{Variable: "DB", Ref: "dso://vault/db", Given: true}, {Variable: "NEW", Ref: "dso://vault/new", Given: true},
	})
	data, err := rewriteBundle(o, "/run/b", wire.DeliverResponse{Env: map[string][]byte{"DB": []byte("1"), "KEY": []byte("/k"), "NEW": []byte("2")}})
	assert.NilError(t, err)
	for _, want := range []string{`"DB=1"`, `"NEW=2"`, `"KEY=/k"`} {
		assert.Assert(t, strings.Contains(string(data), want), string(data))
	}
	assert.Assert(t, !strings.Contains(string(data), `=dso://vault`), string(data))
}

func FuzzRewriteBundle(f *testing.F) {
	f.Add([]byte(bundleJSON), []byte("value"))
	f.Add([]byte(`{"process":{"env":["A=dso://x"]}}`), []byte("\x00\"\\"))
	f.Add([]byte(`{"process":null,"mounts":null,"root":null}`), []byte(""))
	f.Fuzz(func(t *testing.T, data, value []byte) {
		var o, before object
		if json.Unmarshal(data, &o) != nil || json.Unmarshal(data, &before) != nil {
			return
		}
		req, err := container(o, "c1", target.Rules{})
		if err != nil {
			return
		}
		resp := wire.DeliverResponse{Env: map[string][]byte{}, FilesDir: "/files"}
		for _, r := range req.References {
			resp.Env[r.Variable] = value
		}
		got, err := rewriteBundle(o, "/bundle", resp)
		if err != nil {
			return
		}
		var after object
		assert.NilError(t, json.Unmarshal(got, &after))
		for key, raw := range before {
			if !slices.Contains([]string{"process", "root", "mounts"}, key) {
				assert.Assert(t, same(raw, after[key]), "member %q changed", key)
			}
		}
		again, err := container(after, "c1", target.Rules{})
		assert.NilError(t, err)
		if !strings.HasPrefix(string(value), "dso") {
			assert.Equal(t, len(again.References), 0)
		}
	})
}

// same compares JSON but for spaces and escapes.
func same(a, b json.RawMessage) bool {
	canonical := func(raw json.RawMessage) string {
		out, err := json.Marshal(raw)
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	return canonical(a) == canonical(b)
}
