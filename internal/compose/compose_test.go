package compose_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func write(t *testing.T, file string, text []byte) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.NilError(t, os.WriteFile(file, text, 0o644))
}

// project writes a compose.yaml into a fresh current directory.
func project(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	write(t, filepath.Join(dir, "compose.yaml"), []byte(text))
	t.Chdir(dir)
	return dir
}

func load(t *testing.T, text string) *compose.Project {
	t.Helper()
	project(t, text)
	p, err := compose.Load(t.Context(), compose.Options{})
	assert.NilError(t, err)
	return p
}

func TestOverlay_GoldenForEveryShape(t *testing.T) {
	home, err := os.Getwd()
	assert.NilError(t, err)
	for _, f := range fixtures {
		t.Run(f.dir, func(t *testing.T) {
			dir := f.enter(t)
			text, err := compose.Overlay(f.load(t), overlayOptions)
			assert.NilError(t, err)
			assert.Assert(t, !strings.Contains(string(text), "c0ffee"), "a plain value is in the overlay")
			t.Chdir(home)
			golden.Assert(t, strings.ReplaceAll(string(text), dir, "/project"), filepath.Join(f.dir, "overlay.golden"))
		})
	}
}

func TestLoad_FindsReferencesWhereverTheyStand(t *testing.T) {
	fixture{dir: "env-file"}.enter(t)
	p := fixture{}.load(t)
	assert.Equal(t, p.Name, "from-dotenv")
	refs := p.Services()[0].References
	assert.DeepEqual(t, refs, []compose.Reference{
		{Variable: "API_KEY", Ref: secret.Ref{Path: "api/key"}},
		{Variable: "DB_PASSWORD", Ref: secret.Ref{Path: "db_password"}},
	})
}

func TestLoad_FindsReferencesInHooks(t *testing.T) {
	fixture{dir: "jobs-hooks"}.enter(t)
	assert.DeepEqual(t, fixture{}.load(t).Services()[0].References, []compose.Reference{
		{Variable: "ADMIN", Ref: secret.Ref{Path: "admin"}},
		{Variable: "KEY", Ref: secret.Ref{Kind: secret.KindFile, Path: "key"}},
	})
}

func TestLoad_ConfigFilesAreThoseOfDockerComposeInOrder(t *testing.T) {
	f := fixture{dir: "override", from: "sub/deeper"}
	dir := f.enter(t)
	p := f.load(t)
	assert.DeepEqual(t, p.ConfigFiles, []string{filepath.Join(dir, "compose.yaml"), filepath.Join(dir, "compose.override.yaml")})
	assert.Equal(t, p.WorkingDir, dir)
}

func TestLoad_ReadsTheEnvironmentOfDockerCompose(t *testing.T) {
	dir := fixture{dir: "several-files"}.enter(t)
	t.Setenv("COMPOSE_FILE", "base.yaml:prod.yaml")
	t.Setenv("COMPOSE_PROJECT_NAME", "from-env")
	p, err := compose.Load(t.Context(), compose.Options{})
	assert.NilError(t, err)
	assert.Equal(t, p.Name, "from-env")
	assert.DeepEqual(t, p.ConfigFiles, []string{filepath.Join(dir, "base.yaml"), filepath.Join(dir, "prod.yaml")})

	envFile := filepath.Join(t.TempDir(), "names.env")
	write(t, envFile, []byte("COMPOSE_PROFILES=debug\n"))
	t.Setenv("COMPOSE_ENV_FILES", envFile)
	p, err = compose.Load(t.Context(), compose.Options{Files: []string{"../profiles/compose.yaml"}})
	assert.NilError(t, err)
	assert.Equal(t, len(p.Services()), 2)
}

func TestLoad_ReportsEveryMalformedReference(t *testing.T) {
	project(t, `
services:
  web: {image: a, environment: {ONE: "dso://", TWO: "dso://a//b", OK: "dso://ok"}}
  api: {image: a, environment: ["THREE=dsofile://../x"]}
`)
	_, err := compose.Load(t.Context(), compose.Options{})
	assert.ErrorIs(t, err, secret.ErrBadRef)
	for _, want := range []string{`service web, variable ONE: `, `"dso://"`, `service web, variable TWO: `, `"dso://a//b"`, `service api, variable THREE: `, `"dsofile://../x"`} {
		assert.ErrorContains(t, err, want)
	}
	assert.Assert(t, !strings.Contains(err.Error(), "OK"))
}

func TestLoad_WithoutAFileSaysSo(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := compose.Load(t.Context(), compose.Options{})
	assert.ErrorIs(t, err, compose.ErrNoFile)
}

func TestLoad_StandardInputIsRefused(t *testing.T) {
	_, err := compose.Load(t.Context(), compose.Options{Files: []string{"-"}})
	assert.ErrorIs(t, err, compose.ErrStdin)
}

func TestLoad_LeavesItsOwnOverlayOut(t *testing.T) {
	dir := project(t, `services: {web: {image: a, environment: {T: dso://t}, ports: ["80:80"]}}`)
	p, err := compose.Load(t.Context(), compose.Options{})
	assert.NilError(t, err)
	text, err := compose.Overlay(p, overlayOptions)
	assert.NilError(t, err)
	path, err := compose.WriteOverlay(p, text)
	assert.NilError(t, err)

	write(t, filepath.Join(dir, ".env"), []byte("COMPOSE_FILE=compose.yaml:.dso/compose.yaml\n"))
	again, err := compose.Load(t.Context(), compose.Options{})
	assert.NilError(t, err)
	assert.Assert(t, len(again.ConfigFiles) == 1 && again.ConfigFiles[0] != path)
	text2, err := compose.Overlay(again, overlayOptions)
	assert.NilError(t, err)
	assert.Equal(t, string(text2), string(text))
}

func TestProjectName_FollowsThePrecedenceOfDockerCompose(t *testing.T) {
	dir := project(t, `services: {}`)
	name := func(opts compose.Options) string {
		t.Helper()
		n, err := compose.ProjectName(t.Context(), opts)
		assert.NilError(t, err)
		return n
	}
	assert.Equal(t, name(compose.Options{}), "shop")
	write(t, filepath.Join(dir, "compose.yaml"), []byte("name: ${STAGE:-dev}-shop\nservices: {}\n"))
	assert.Equal(t, name(compose.Options{}), "dev-shop")
	write(t, filepath.Join(dir, ".env"), []byte("STAGE=prod\n"))
	assert.Equal(t, name(compose.Options{}), "prod-shop")
	t.Setenv("COMPOSE_PROJECT_NAME", "env-shop")
	assert.Equal(t, name(compose.Options{}), "env-shop")
	assert.Equal(t, name(compose.Options{ProjectName: "given"}), "given")
	_, err := compose.ProjectName(t.Context(), compose.Options{ProjectName: "Not Valid"})
	assert.ErrorContains(t, err, "invalid project name")
}

func TestProjectName_DoesNotMindWhatElseIsWrong(t *testing.T) {
	project(t, "name: shop2\nservices: {web: {image: \"a:${TAG:?required}\", environment: {T: \"dso://\"}, nonsense: 1}}\n")
	name, err := compose.ProjectName(t.Context(), compose.Options{})
	assert.NilError(t, err)
	assert.Equal(t, name, "shop2")
}

func TestProjectName_IsEmptyWithoutAComposeFile(t *testing.T) {
	t.Chdir(t.TempDir())
	name, err := compose.ProjectName(t.Context(), compose.Options{})
	assert.NilError(t, err)
	assert.Equal(t, name, "")
}

func TestFrontFor_SaysWhy(t *testing.T) {
	for _, tc := range []struct {
		fixture, service string
		need             bool
		reasons          string
	}{
		{"list-env", "web", true, "publishes port 127.0.0.1:8080:80/tcp; publishes port 5353:53/udp; publishes port 9000:9000/tcp; publishes port 9001:9001/tcp"},
		{"list-env", "worker", false, "has no secret reference"},
		{"expose-only", "api", true, "exposes port 8080; exposes port 9090/udp"},
		{"include", "api", true, "web depends on it"},
		{"include", "web", false, "nothing connects to it: no ports, no expose, no service depends on it"},
		{"aliases", "web", true, "client depends on it"},
		{"database", "db", false, "writes to volume data at /var/lib/postgresql/data"},
		{"database", "cache", true, "exposes port 6379"},
		{"database", "ro", true, "exposes port 80"},
		{"static-ip", "fixed", false, "has the fixed address 10.9.0.5 on network back"},
		{"static-ip", "moved", true, "publishes port 8081:80/tcp"},
		{"network-mode", "vpn", false, "app lives in a namespace of it"},
		{"network-mode", "app", false, "has network_mode service:vpn"},
		{"network-mode", "bare", false, "has network_mode host"},
		{"strategies", "restart", false, "its strategy is restart"},
		{"strategies", "off", false, "dso.reloader is false"},
		{"strategies", "gpu", false, "uses reserved devices (gpus)"},
		{"strategies", "device", false, "uses device /dev/null"},
		{"strategies", "hostmode", true, "publishes port 5:5/tcp"}, // the mode is Swarm's alone
		{"strategies", "anonymous", false, "writes to an anonymous volume at /data"},
		{"strategies", "linked", true, "linker links to it"},
		{"jobs-hooks", "web", true, "exposes port 80"},
		{"strategies", "lonely", false, "nothing connects to it: no ports, no expose, no service depends on it"},
	} {
		t.Run(tc.fixture+"/"+tc.service, func(t *testing.T) {
			f := fixture{dir: tc.fixture}
			f.enter(t)
			need, reasons, err := compose.FrontFor(f.load(t), tc.service)
			assert.NilError(t, err)
			assert.Equal(t, strings.Join(reasons, "; "), tc.reasons)
			assert.Equal(t, need, tc.need)
		})
	}
}

func TestCheck_TellsEverythingThatIsWrongWithItsPlace(t *testing.T) {
	project(t, `
services:
  web:
    image: a
    environment: {ONE: "dso://", OK: "dso://ok"}
    labels: {dso.health.timeout: soon, dso.reloader: maybe, dso.monitor: -5s, dso.drain.timeout: 10, dso.update.stategy: x, dso.host_ports: "80"}
  api:
    image: a
    environment: {KEY: "dso://key"}
    network_mode: host
    labels: {dso.update.strategy: rolling, dso.update.parallelism: many}
  plain: {image: a, labels: {dso.update.order: first, dso.update.delay: "5"}}
`)
	p, errs := compose.Check(t.Context(), compose.Options{})
	assert.Equal(t, p.Services()[2].References[0].Variable, "OK", "what can be used is")
	var got []string
	for _, err := range errs {
		var placed *compose.PlaceError
		assert.Assert(t, errors.As(err, &placed), "%v has no place", err)
		got = append(got, placed.Error())
	}
	slices.Sort(got)
	want := []string{
		`service api: label dso.update.parallelism="many" is not a number of containers`,
		`service plain: dso.update.order "first" must be start-first or stop-first`,
		`service plain: label dso.update.delay="5" is not a duration such as 30s`,
		`service web, variable ONE: not a valid secret reference: "dso://": the path is empty`,
		`service web: label dso.drain.timeout="10" is not a duration such as 30s`,
		`service web: label dso.health.timeout="soon" is not a duration such as 30s`,
		`service web: label dso.host_ports: "80" is not a port such as 127.0.0.1:8080:80/tcp: it names no port of the host`,
		`service web: label dso.monitor="-5s" is not a duration such as 30s`,
		`service web: label dso.reloader="maybe" is neither true nor false`,
		`service web: unknown label dso.update.stategy, did you mean dso.update.strategy?`,
	}
	assert.DeepEqual(t, got, want)
	_, err := compose.Load(t.Context(), compose.Options{})
	assert.ErrorContains(t, err, "variable ONE")
	assert.ErrorContains(t, err, "dso.host_ports")
}

func TestOverlay_RefusesWhatItCannotServe(t *testing.T) {
	for name, tc := range map[string]struct{ service, want string }{
		"other runtime":     {`{image: a, environment: {T: dso://t}, runtime: nvidia}`, `runtime "nvidia"`},
		"rolling on host":   {`{image: a, environment: {T: dso://t}, network_mode: host, labels: {dso.update.strategy: rolling}}`, "network_mode host"},
		"unknown strategy":  {`{image: a, environment: {T: dso://t}, labels: {dso.update.strategy: roling}}`, `did you mean "rolling"`},
		"signal for none":   {`{image: a, environment: {T: dsofile://t}, labels: {dso.update.signal: SIGHUP}}`, "no effect without dso.update.strategy=signal"},
		"unknown signal":    {`{image: a, environment: {T: dsofile://t}, labels: {dso.update.strategy: signal, dso.update.signal: RELOAD}}`, "is no signal, such as SIGHUP"},
		"command for none":  {`{image: a, environment: {T: dsofile://t}, labels: {dso.update.exec: x}}`, "no effect without dso.update.strategy=exec"},
		"empty command":     {`{image: a, environment: {T: dsofile://t}, labels: {dso.update.strategy: exec, dso.update.exec: "[]"}}`, "is no command"},
		"unknown label":     {`{image: a, labels: {dso.update.stategy: rolling}}`, "did you mean dso.update.strategy"},
		"label in capitals": {`{image: a, labels: {DSO.HOST_PORTS: "80:80"}}`, "unknown label DSO.HOST_PORTS, did you mean dso.host_ports"},
		"a front's label":   {`{image: a, labels: {dso.front.service: x}}`, "generated front of x"},
		"name of the front": {`{image: a, environment: {T: dso://t}, ports: ["80"]}, web-front: {image: b}`, "rename that service"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compose.Overlay(load(t, "services: {web: "+tc.service+"}"), overlayOptions)
			assert.ErrorContains(t, err, "service web: ")
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestOverlay_TheFrontHasNoNameThatItsServiceHasNot(t *testing.T) {
	text, err := compose.Overlay(load(t, `
services:
  web:
    image: a
    environment: {T: dso://t}
    ports: ["80"]
    networks: {quiet: {use_service_name_alias: false, aliases: [www]}}
networks: {quiet: }
`), overlayOptions)
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(text), "aliases:\n          - www\n"), "%s", text)
}

func TestOverlay_DollarSignsSurviveTheSecondReading(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a$HOME b")
	write(t, filepath.Join(dir, "compose.yaml"), []byte(`services: {web: {image: a, environment: {T: dso://t}}}`))
	t.Chdir(dir)
	p, err := compose.Load(t.Context(), compose.Options{ProjectName: "p"})
	assert.NilError(t, err)
	text, err := compose.Overlay(p, overlayOptions)
	assert.NilError(t, err)
	path, err := compose.WriteOverlay(p, text)
	assert.NilError(t, err)
	r := config(t, binary(t), "-p", "p", "-f", "compose.yaml", "-f", path)
	assert.Equal(t, r.Services["web"].Labels[label.ComposePath], filepath.Join(dir, "compose.yaml"))
}

func TestWriteOverlay_IsIgnoredByGitAndLeftAloneWhenIdentical(t *testing.T) {
	p := load(t, `services: {web: {image: a}}`)
	path, err := compose.WriteOverlay(p, []byte("services: {}\n"))
	assert.NilError(t, err)
	assert.Equal(t, path, filepath.Join(p.WorkingDir, ".dso", "compose.yaml"))
	ignore, err := os.ReadFile(filepath.Join(p.WorkingDir, ".dso", ".gitignore"))
	assert.NilError(t, err)
	assert.Equal(t, string(ignore), "*\n")
	before, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Equal(t, before.Mode().Perm(), os.FileMode(0o644))

	_, err = compose.WriteOverlay(p, []byte("services: {}\n"))
	assert.NilError(t, err)
	after, err := os.Stat(path)
	assert.NilError(t, err)
	assert.Assert(t, os.SameFile(before, after))
	_, err = compose.WriteOverlay(p, []byte("services: {a: {}}\n"))
	assert.NilError(t, err)
	after, err = os.Stat(path)
	assert.NilError(t, err)
	assert.Assert(t, !os.SameFile(before, after))
}
