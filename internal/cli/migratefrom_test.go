package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/migrate/v3/v3test"
)

// oldHost is a user's home with what version 3.5 leaves there.
func oldHost(t *testing.T) (home, conf string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DSO_MASTER_KEY", "")
	file, err := v3test.Vault("the master key", `{"projects":{"shop":{"db":{"value":"hunter2-db"},"api":{"value":"hunter2-api"}}}}`)
	assert.NilError(t, err)
	conf = filepath.Join(home, "dso.yaml")
	for path, content := range map[string]string{
		filepath.Join(home, ".dso", "vault.enc"):  string(file),
		filepath.Join(home, ".dso", "master.key"): "the master key\n",
		conf: "provider: file\nconfig: {path: /srv/secrets}\nagent: {cache: true}\nsecrets: [{name: tls, inject: env, mappings: {key: TLS_KEY}, colour: blue}]\n",
	} {
		assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return home, conf
}

func TestMigrateFrom_ShowsAndThenMovesWhatTheOlderVersionHas(t *testing.T) {
	home, conf := oldHost(t)
	run := func(args ...string) (string, error) {
		out, errs, err := said(t, nil, append([]string{"--socket", filepath.Join(home, "none"), "-c", conf}, args...)...)
		return out + errs, err
	}
	before, err := os.ReadFile(conf)
	assert.NilError(t, err)
	_, err = run("init")
	assert.NilError(t, err)

	for _, args := range [][]string{{"migrate", "--from", "v3.5"}, {"migrate", "--from", "v3.5", "--json"}} {
		out, err := run(args...)
		assert.NilError(t, err)
		for _, has := range []string{"shop/db", "shop/api", "dso.v4.yaml", "agent.cache is left out", "unknown key `colour`"} {
			assert.Check(t, is.Contains(out, has))
		}
		assert.Check(t, !strings.Contains(out, "hunter2"))
	}
	out, err := run("secret", "list")
	assert.NilError(t, err)
	assert.Check(t, !strings.Contains(out, "shop/db"), "nothing is done without --apply")

	out, err = run("migrate", "--from", "v3.5", "--apply", "--yes")
	assert.NilError(t, err, out)
	out, err = run("secret", "get", "shop/db")
	assert.NilError(t, err)
	assert.Check(t, is.Equal(strings.TrimSpace(out), "hunter2-db"))
	written, err := os.ReadFile(filepath.Join(home, "dso.v4.yaml"))
	assert.NilError(t, err)
	assert.Check(t, is.Contains(string(written), "TLS_KEY: file/tls#key"))
	after, err := os.ReadFile(conf)
	assert.NilError(t, err)
	assert.Check(t, is.Equal(string(after), string(before)), "the old file stays")
	_, err = os.Stat(filepath.Join(home, ".dso", "vault.enc"))
	assert.NilError(t, err)

	_, err = run("migrate", "--from", "v3.5", "--apply", "--yes")
	assert.ErrorContains(t, err, "dso.v4.yaml is there already")
}

func TestMigrateFrom_SaysWhatItCannotRead(t *testing.T) {
	home, conf := oldHost(t)
	for name, tc := range map[string]struct {
		args  []string
		wants string
	}{
		"another key":     {[]string{"--from", "v3.5", "--key", conf}, "does not open with this master key"},
		"no key":          {[]string{"--from", "v3.5", "--key", filepath.Join(home, "none")}, "read the master key"},
		"no vault":        {[]string{"--from", "v3.5", "--vault", filepath.Join(home, "none")}, "no such file"},
		"another version": {[]string{"--from", "v2"}, "--from is v3.5"},
		"without --from":  {[]string{"--vault", conf}, "go with --from"},
	} {
		_, _, err := said(t, nil, append([]string{"--socket", filepath.Join(home, "none"), "-c", conf, "migrate"}, tc.args...)...)
		assert.Check(t, is.ErrorContains(err, tc.wants), name)
	}
}
