package migrate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// shapes are the projects of testdata: each is an archive of its files, and its golden
// file the plan with the new files.
func shapes(t *testing.T) map[string][]File {
	t.Helper()
	found, err := filepath.Glob("testdata/*.txtar")
	assert.NilError(t, err)
	assert.Assert(t, len(found) >= 15, "%d shapes", len(found))
	out := map[string][]File{}
	for _, path := range found {
		text, err := os.ReadFile(path)
		assert.NilError(t, err)
		out[strings.TrimSuffix(filepath.Base(path), ".txtar")] = filesOf(string(text))
	}
	return out
}

// filesOf takes an archive apart: each file after a line "-- NAME --".
func filesOf(text string) []File {
	var files []File
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			files = append(files, File{Path: strings.TrimSuffix(name, " --")})
		} else {
			last := &files[len(files)-1]
			last.Text = append(last.Text, line...)
		}
	}
	return files
}

func inputOf(files []File) Input {
	in := Input{Project: "shop", Environ: map[string]string{"HOME": "/root"}}
	for _, f := range files {
		switch {
		case strings.HasPrefix(filepath.Base(f.Path), "compose") || strings.HasPrefix(filepath.Base(f.Path), "docker-compose"):
			in.Compose = append(in.Compose, File{"/p/" + f.Path, f.Text})
		case f.Path == ".env":
			in.Env = append(in.Env, File{"/p/.env", f.Text})
		}
	}
	in.Read = func(path string) ([]byte, error) {
		for _, f := range files {
			if "/p/"+f.Path == path {
				return f.Text, nil
			}
		}
		return nil, os.ErrNotExist
	}
	return in
}

func TestMake_ShapesOfTheRealWorld(t *testing.T) {
	for name, a := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			in := inputOf(a)
			plan, err := Make(in)
			assert.NilError(t, err)
			shown, err := json.MarshalIndent(plan, "", "  ")
			assert.NilError(t, err)
			var out strings.Builder
			fmt.Fprintf(&out, "%s\n", shown)
			for _, f := range plan.Files {
				fmt.Fprintf(&out, "-- %s --\n%s", f.Path, f.Text)
			}
			golden.Assert(t, out.String(), name+".golden")

			for _, s := range plan.Secrets {
				value := string(s.Value.Reveal())
				assert.Assert(t, len(value) < 6 || !strings.Contains(string(shown), value), "the plan shows %s", s.Name)
				for _, f := range plan.Files {
					stays := slices.ContainsFunc(plan.Left, func(l Left) bool {
						return strings.HasPrefix(l.Where, f.Original+":") && strings.Contains(l.Text, " stays")
					})
					assert.Assert(t, stays || len(value) < 6 || !bytes.Contains(f.Text, []byte(value)), "%s still holds %s", f.Path, s.Name)
				}
			}
			for _, f := range plan.Files {
				if strings.HasSuffix(f.Path, ".yaml") || strings.HasSuffix(f.Path, ".yml") {
					keepsCommentsAndOrder(t, original(in, f.Original), f.Text)
				}
			}
			again(t, in, plan)
		})
	}
}

func original(in Input, path string) []byte {
	for _, f := range in.Compose {
		if f.Path == path {
			return f.Text
		}
	}
	return nil
}

var comment = regexp.MustCompile(`(?:^|\s)#(.*)$`)

// keepsCommentsAndOrder requires every comment of the original, in its order, and every
// key that is still there in the order of before.
func keepsCommentsAndOrder(t *testing.T, before, after []byte) {
	t.Helper()
	comments := func(text []byte) []string {
		var found []string
		for line := range strings.Lines(string(text)) {
			if m := comment.FindStringSubmatch(line); m != nil {
				found = append(found, strings.TrimSpace(m[1]))
			}
		}
		return found
	}
	assert.DeepEqual(t, comments(before), comments(after))
	keys := func(text []byte) []string {
		var n yaml.Node
		assert.NilError(t, yaml.Unmarshal(text, &n))
		var found []string
		each(member(n.Content[0], "services"), func(k, v *yaml.Node) {
			each(v, func(k2, _ *yaml.Node) { found = append(found, k.Value+"."+k2.Value) })
		})
		return found
	}
	old, fresh := keys(before), keys(after)
	kept := slices.DeleteFunc(slices.Clone(fresh), func(k string) bool { return !slices.Contains(old, k) })
	was := slices.DeleteFunc(slices.Clone(old), func(k string) bool { return !slices.Contains(kept, k) })
	assert.DeepEqual(t, kept, was)
}

// again requires that what was migrated has nothing left to migrate.
func again(t *testing.T, in Input, plan Plan) {
	t.Helper()
	next := in
	next.Compose, next.Env = slices.Clone(in.Compose), slices.Clone(in.Env)
	fresh := map[string][]byte{}
	for _, f := range plan.Files {
		fresh[f.Path] = f.Text
		for _, list := range [][]File{next.Compose, next.Env} {
			for i := range list {
				if list[i].Path == f.Original {
					list[i].Text = f.Text
				}
			}
		}
	}
	next.Read = func(path string) ([]byte, error) {
		if text, ok := fresh[path]; ok {
			return text, nil
		}
		return in.Read(path)
	}
	second, err := Make(next)
	assert.NilError(t, err)
	assert.Equal(t, len(second.Secrets), 0, "%v", second.Secrets)
	assert.Equal(t, len(second.Files), 0, "%v", second.Files)
}

func TestLikely(t *testing.T) {
	for _, tc := range []struct{ name, value, why string }{
		{"DB_PASSWORD", "x", ByName}, {"POSTGRES_PASSWORD", "postgres", ByName}, {"db_pass", "x", ByName}, {"REDIS_PW", "x", ByName},
		{"API_KEY", "k", ByName}, {"AWS_SECRET_ACCESS_KEY", "k", ByName}, {"JWT_SECRET", "k", ByName}, {"GITHUB_TOKEN", "t", ByName}, {"SENTRY_DSN", "d", ByName},
		{"TOKEN", "t", ByName}, {"MYSQL_ROOT_PASSWORD", "r", ByName}, {"SECRET_KEY_BASE", "s", ByName}, {"APP_KEY", "base64:abc", ByName},
		{"DATABASE_URL", "postgres://u:p@db/app", ByURL}, {"AMQP", "amqp://guest:guest@mq:5672/", ByURL}, {"DATABASE_URL", "postgres://db/app", ""},
		{"X", "-----BEGIN PRIVATE KEY-----\nabc", ByForm}, {"X", "ghp_0123456789abcdefghijABCDEFGHIJ", ByForm}, {"X", "AKIAIOSFODNN7EXAMPLE", ByForm},
		{"PEPPER", "9f86d081884c7d659a2feaa0c55ad015", ByEntropy}, {"BLOB", "dGhpcyBpcyBub3QgYSBzZWNyZXQ5OTk=", ByEntropy},
		{"accessToken", "t", ByName}, {"dbPass", "x", ByName}, {"PASSWORD_SALT", "x", ByName}, {"SALT", "x", ByName}, {"PIN", "1234", ByName}, {"USER_PIN", "1234", ByName},
		{"JDBC", "jdbc:postgresql://h/db?user=u&password=x", ByList}, {"CONN", "Server=h;Database=d;User Id=u;Password=x;", ByList}, {"PG", "host=db password=x", ByList},
		{"HEADER", "Basic dXNlcjpwYXNzd29yZA==", ByForm}, {"HEADER", "Bearer abcdefgh", ByForm}, {"HOOK_URL", "https://hooks.slack.com/services/T0/B0/x", ByForm},
		{"GIT_COMMIT", "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""}, {"REVISION", "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""}, {"IMAGE_DIGEST", "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""},
		{"JDBC", "jdbc:postgresql://h/db?user=u&password=", ""}, {"PINNED", "x", ""}, {"SALTY", "x", ""}, {"SPINNER_PINS", "3", ""}, {"MODE", "Basic auth", ""},
		{"DB_PASSWORD_FILE", "/run/secrets/db", ""}, {"TOKEN_TTL", "3600", ""}, {"PASSWORD_MIN_LENGTH", "12", ""}, {"SECRET_NAME", "x", ""},
		{"PUBLIC_KEY", "x", ""}, {"PWD", "/srv", ""}, {"ALLOW_EMPTY_PASSWORD", "yes", ""}, {"DB_PASSWORD", "", ""}, {"KEYBOARD", "us", ""}, {"MONKEY", "banana", ""},
		{"IMAGE", "registry.example.com/team/application:v1.2.3-rc1", ""}, {"ID", "123e4567-e89b-12d3-a456-426614174000", ""},
		{"DIGEST", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", ""}, {"TEXT", "the quick brown fox jumps", ""},
		{"HOSTS", "db.internal.example.com", ""}, {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin", ""}, {"LIST", "alpha,beta,gamma,delta,epsilon", ""},
		{"JAVA_OPTS", "-Xmx512m -Dfile.encoding=UTF-8", ""}, {"COMPASS_HEADING", "north", ""}, {"BYPASS", "x", ""},
	} {
		assert.Check(t, likely(tc.name, tc.value) == tc.why, "%s=%s: %q, want %q", tc.name, tc.value, likely(tc.name, tc.value), tc.why)
	}
}

func TestPlan_IncludeAndExclude(t *testing.T) {
	in := Input{Project: "shop", Compose: []File{{"/p/compose.yaml", []byte("services: {web: {environment: {A: abc, DB_PASSWORD: x, R: 9f86d081884c7d659a2feaa0c55ad015}}}\n")}},
		Include: []string{"A"}, Exclude: []string{"DB_PASSWORD"}, NoEntropy: true}
	plan, err := Make(in)
	assert.NilError(t, err)
	assert.Equal(t, len(plan.Secrets), 1)
	assert.Equal(t, plan.Secrets[0].Name, "shop/a")
	assert.Equal(t, plan.Secrets[0].Why, ByPerson)
}

// Who cannot be read may interpolate any variable.
func TestMake_NothingLeavesTheEnvironmentOfWhatCannotBeRead(t *testing.T) {
	for _, text := range []string{
		"include: [none.yaml]\nservices: {web: {environment: {DB_PASSWORD: \"${PW}\"}}}\n",
		"include: [{path: [https://example.com/a.git]}]\nservices: {web: {environment: {DB_PASSWORD: \"${PW}\"}}}\n",
		"services: {web: {extends: {file: none.yaml, service: x}, environment: {DB_PASSWORD: \"${PW}\"}}}\n",
	} {
		plan, err := Make(Input{
			Project: "shop", Compose: []File{{"/p/compose.yaml", []byte(text)}}, Env: []File{{"/p/.env", []byte("PW=hunter2\n")}},
			Read: func(string) ([]byte, error) { return nil, os.ErrNotExist },
		})
		assert.NilError(t, err)
		assert.Equal(t, len(plan.Files), 1)
		assert.Equal(t, plan.Files[0].Path, "/p/compose.dso.yaml")
		assert.Equal(t, len(plan.Left), 2)
		assert.Assert(t, strings.Contains(plan.Left[0].Text, "cannot be read"), plan.Left[0].Text)
		assert.DeepEqual(t, plan.Left[1], Left{"/p/.env:1", "PW stays: what " + plan.Left[0].Where + " names may interpolate it"})
	}
}

func TestMake_ErrorsNameTheFileAndNoContent(t *testing.T) {
	for _, text := range []string{"a: [hunter2", "hunter2", "- hunter2", ""} {
		_, err := Make(Input{Compose: []File{{"/p/compose.yaml", []byte(text)}}})
		assert.ErrorContains(t, err, "/p/compose.yaml")
		assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
	}
	_, err := Make(Input{Env: []File{{"/p/.env", []byte("A='hunter2\n")}}})
	assert.ErrorContains(t, err, "/p/.env")
	assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
}

func TestBeside(t *testing.T) {
	for in, want := range map[string]string{
		"/p/compose.yaml": "/p/compose.dso.yaml", "/p/docker-compose.yml": "/p/docker-compose.dso.yml", "/p/.env": "/p/.env.dso",
		"prod.env": "prod.dso.env", "./conf/app": "./conf/app.dso", ".env.prod": ".env.prod.dso",
	} {
		assert.Equal(t, Beside(in), want)
	}
}

func TestFormatEnv_IsReadBackByteByByte(t *testing.T) {
	values := map[string]string{
		"shop/a": "plain", "shop/b": `it's "quoted" $HOME \n`, "shop/c-d.e": "two\nlines", "shop/f": "", "shop/g": " space ", "shop/h": "it's\ntwo",
	}
	text, err := FormatEnv(values)
	assert.NilError(t, err)
	e, err := ParseEnv("x", text, nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, e.Values(), map[string]string{
		"A": "plain", "B": values["shop/b"], "C_D_E": "two\nlines", "F": "", "G": " space ", "H": "it's\ntwo",
	})
	for _, value := range []string{"\x00", "a\r\n", "\xff\xfe"} {
		_, err = FormatEnv(map[string]string{"shop/a": value})
		assert.ErrorContains(t, err, "json")
	}
}

func TestFormatEnv_RefusesTwoSecretsOfOneVariable(t *testing.T) {
	_, err := FormatEnv(map[string]string{"shop/a-b": "hunter2", "other/a_b": "hunter2"})
	assert.ErrorContains(t, err, "other/a_b and shop/a-b would both be the variable A_B")
	assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
}

func TestFormatJSON_KeepsEveryByte(t *testing.T) {
	values := map[string]string{"shop/text": "it's <\"text\">\n\x00\r", "shop/key": "\xff\xfe\x00", "other/text": "é"}
	text, err := FormatJSON(values)
	assert.NilError(t, err)
	var read map[string]any
	assert.NilError(t, json.Unmarshal(text, &read))
	assert.DeepEqual(t, read, map[string]any{
		"shop/text": values["shop/text"], "other/text": "é", "shop/key": map[string]any{"base64": "//4A"},
	})
}

func TestEnvSecrets_RefusesTwoVariablesOfOneSecret(t *testing.T) {
	_, _, err := EnvSecrets(".env", []byte("DB_PASSWORD=hunter2-1\ndb_password=hunter2-2\n"), "shop", false)
	assert.ErrorContains(t, err, "DB_PASSWORD and db_password of .env would both be the secret shop/db_password")
	assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
}

func TestEnvSecrets(t *testing.T) {
	found, others, err := EnvSecrets(".env", []byte("export DB_PASSWORD=old\nPORT=80\nDB_PASSWORD=x\nREF=dso://a\n"), "shop", false)
	assert.NilError(t, err)
	assert.Equal(t, len(found), 1)
	assert.Equal(t, found[0].Name, "shop/db_password")
	assert.Equal(t, string(found[0].Value.Reveal()), "x", "the last one counts")
	assert.DeepEqual(t, others, []string{"PORT"})
	found, others, err = EnvSecrets(".env", []byte("DB_PASSWORD=x\nPORT=80\n"), "shop", true)
	assert.NilError(t, err)
	names := []string{found[0].Name, found[1].Name}
	sort.Strings(names)
	assert.DeepEqual(t, names, []string{"shop/db_password", "shop/port"})
	assert.Equal(t, len(others), 0)
}

func FuzzMake(f *testing.F) {
	f.Add([]byte("services: {web: {environment: [DB_PASSWORD=x], env_file: .env}}"), []byte("export A='x\ny'\nB=${A:-z}"))
	f.Add([]byte("x-a: &a {env_file: [a.env, {path: b.env, format: raw}]}\nservices:\n  web: &w {<<: *a, environment: &e {A_KEY: &k x}}\n  b: {<<: *w, environment: *e, command: [*k]}\n"), []byte("A_TOKEN=x\nB=${A_TOKEN}y\n"))
	f.Add([]byte("include: [a.yaml]\nservices: {web: {extends: {file: b.yaml, service: web}, env_file: a}}\n---\nservices: {web: {environment: !override [A_KEY=1e3]}}\n"), []byte("services: {web: {env_file: a, environment: {A_KEY: 0x1F}}}"))
	f.Fuzz(func(t *testing.T, compose, env []byte) {
		in := Input{Project: "p", Compose: []File{{"compose.yaml", compose}}, Env: []File{{".env", env}}, Read: func(string) ([]byte, error) { return env, nil }}
		plan, err := Make(in)
		if err != nil {
			return
		}
		for _, s := range plan.Secrets {
			_, err := secret.ParseRef("dso://" + s.Name)
			assert.NilError(t, err)
		}
	})
}
