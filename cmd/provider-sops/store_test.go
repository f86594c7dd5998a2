package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/exec"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// programVariable makes this test's own binary the program.
const programVariable = "DSO_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "" {
		os.Exit(m.Run())
	}
	if err := run(os.Args[1:]); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// keys writes a key of age as age-keygen does, and returns who can be encrypted to.
func keys(t *testing.T) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	assert.NilError(t, err)
	file = filepath.Join(t.TempDir(), "keys.txt")
	assert.NilError(t, os.WriteFile(file, []byte("# created: now\n"+id.String()+"\n"), 0o600))
	return file, id.Recipient().String()
}

// files are the formats of sops.
type files interface {
	sops.PlainFileLoader
	sops.EncryptedFileEmitter
}

func filesOf(name string) files {
	c := config.NewStoresConfig()
	switch filepath.Ext(name) {
	case ".yaml":
		return yaml.NewStore(&c.YAML)
	case ".json":
		return sopsjson.NewStore(&c.JSON)
	case ".env":
		return dotenv.NewStore(&c.Dotenv)
	case ".ini":
		return ini.NewStore(&c.INI)
	}
	return sopsjson.NewBinaryStore(&c.JSONBinary)
}

// encrypt does what `sops encrypt` does.
func encrypt(t *testing.T, name, recipient string, plain []byte) []byte {
	t.Helper()
	f := filesOf(name)
	branches, err := f.LoadPlainFile(plain)
	assert.NilError(t, err)
	key, err := sopsage.MasterKeyFromRecipient(recipient)
	assert.NilError(t, err)
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{
		KeyGroups: []sops.KeyGroup{{key}}, Version: "3.9.0", LastModified: time.Now().UTC(), UnencryptedSuffix: sops.DefaultUnencryptedSuffix,
	}}
	dataKey, errs := tree.GenerateDataKey()
	assert.NilError(t, errors.Join(errs...))
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(dataKey, cipher)
	assert.NilError(t, err)
	tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, dataKey, tree.Metadata.LastModified.Format(time.RFC3339))
	assert.NilError(t, err)
	text, err := f.EmitEncryptedFile(tree)
	assert.NilError(t, err)
	return text
}

func openProgram(t *testing.T, dir, keyFile string) *exec.Provider {
	t.Helper()
	self, err := os.Executable()
	assert.NilError(t, err)
	p, err := exec.New("sops", exec.Config{
		Program: self, Args: []string{dir}, Timeout: time.Minute,
		Env: func() ([]string, error) {
			return []string{programVariable + "=1", "SOPS_AGE_KEY_FILE=" + keyFile, "GORACE=atexit_sleep_ms=0"}, nil
		},
	})
	assert.NilError(t, err)
	t.Cleanup(p.Close)
	return p
}

// plainFor writes a document whose field "value" is the value.
func plainFor(t *testing.T, name string, value []byte) []byte {
	if filepath.Ext(name) == "" {
		return value
	}
	text, err := json.Marshal(map[string]string{"value": string(value)})
	assert.NilError(t, err)
	return text // YAML too
}

func TestProgram_KeepsTheContract(t *testing.T) {
	for ext, opts := range map[string]providertest.Options{
		"":      {Path: "app/x", NoHistory: true},
		".json": {Path: "app/x.json", Field: "value", TextOnly: true, NoHistory: true},
		".yaml": {Path: "app/x.yaml", Field: "value", TextOnly: true, NoHistory: true, NoEmpty: true},
	} {
		t.Run("format "+strings.TrimPrefix(ext, "."), func(t *testing.T) {
			providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
				dir := t.TempDir()
				keyFile, recipient := keys(t)
				t.Setenv("SOPS_AGE_KEY_FILE", keyFile)
				p := provider.Provider(&provider.Retry{Provider: &store{dir: dir}, Name: "sops", Attempts: 1})
				if ext == "" { // as DSO uses it
					p = openProgram(t, dir, keyFile)
				}
				put := providertest.Files(t, dir, func([]byte) secret.Version { return "" })
				return p, func(path string, value []byte) secret.Version {
					put(path, encrypt(t, path, recipient, plainFor(t, path, value)))
					v, err := (&store{dir: dir}).Version(t.Context(), path)
					assert.NilError(t, err)
					return v
				}
			}, opts)
		})
	}
}

// Through the protocol, as DSO is told of it.
func TestProgram_TellsOfChanges(t *testing.T) {
	providertest.RunWatch(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		keyFile, recipient := keys(t)
		put := providertest.Files(t, dir, func([]byte) secret.Version { return "" })
		return openProgram(t, dir, keyFile), func(path string, value []byte) secret.Version {
			put(path, encrypt(t, path, recipient, value))
			v, err := (&store{dir: dir}).Version(t.Context(), path)
			assert.NilError(t, err)
			return v
		}
	}, providertest.Options{})
}

// A document is delivered as JSON in one form, whatever it is written in.
func TestFormats_BecomeJSON(t *testing.T) {
	for name, plain := range map[string]string{
		"a.yaml": "user: shop\nport: 5432\nlist: [a, {b: null}]\n", "a.json": `{"user": "shop", "port": 5432, "list": ["a", {"b": null}]}`,
		"a.env": "USER=shop\nKEY=line\\nline\n", "a.ini": "[db]\nuser = shop\n",
	} {
		dir := t.TempDir()
		keyFile, recipient := keys(t)
		t.Setenv("SOPS_AGE_KEY_FILE", keyFile)
		providertest.Files(t, dir, func([]byte) secret.Version { return "" })(name, encrypt(t, name, recipient, []byte(plain)))
		value, _, err := (&store{dir: dir}).Get(t.Context(), name, "")
		assert.NilError(t, err)
		want := map[string]string{
			"a.yaml": `{"user":"shop","port":5432,"list":["a",{"b":null}]}`, "a.json": `{"user":"shop","port":5432,"list":["a",{"b":null}]}`,
			"a.env": `{"USER":"shop","KEY":"line\nline"}`, "a.ini": `{"DEFAULT":{},"db":{"user":"shop"}}`,
		}[name]
		assert.Equal(t, string(value.Reveal()), want)
	}
}

func TestFile_ThatCannotBeOpenedSaysWhyAndNoValue(t *testing.T) {
	dir := t.TempDir()
	keyFile, recipient := keys(t)
	_, stranger := keys(t)
	t.Setenv("SOPS_AGE_KEY_FILE", keyFile)
	put := providertest.Files(t, dir, func([]byte) secret.Version { return "" })
	good := encrypt(t, "x.json", recipient, []byte(`{"a": "`+providertest.Canary+`", "b": "y"}`))
	var doc map[string]any
	assert.NilError(t, json.Unmarshal(good, &doc))
	delete(doc, "b") // a member is taken out; the others are still what they were
	changed, err := json.Marshal(doc)
	assert.NilError(t, err)
	put("changed.json", changed)
	put("plain.json", []byte(`{"a": "`+providertest.Canary+`"}`))
	put("plain.yaml", []byte("a: "+providertest.Canary+"\n"))
	put("garbage.json", []byte(providertest.Canary))
	put("cut.json", good[:len(good)/2])
	put("stranger.json", encrypt(t, "x.json", stranger, []byte(`{"a": "`+providertest.Canary+`"}`)))
	for name, want := range map[string]error{
		"changed.json": provider.ErrPermanent, "plain.json": provider.ErrPermanent, "plain.yaml": provider.ErrPermanent,
		"garbage.json": provider.ErrMalformed, "cut.json": provider.ErrMalformed, "stranger.json": provider.ErrCredential, "none.json": provider.ErrNotFound,
	} {
		_, _, err := (&store{dir: dir}).Get(t.Context(), name, "")
		assert.ErrorIs(t, err, want, name)
		assert.Assert(t, !strings.Contains(fmt.Sprint(err), providertest.Canary), "%s: %v", name, err)
	}
}

func TestVersion_OpensNothing(t *testing.T) {
	dir := t.TempDir()
	_, recipient := keys(t)
	t.Setenv("SOPS_AGE_KEY_FILE", "/nonexistent")
	providertest.Files(t, dir, func([]byte) secret.Version { return "" })("x", encrypt(t, "x", recipient, []byte("v")))
	v, err := (&store{dir: dir}).Version(t.Context(), "x")
	assert.NilError(t, err)
	assert.Assert(t, v != "")
}
