package compose_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/compose"
)

// fixture is one shape of a project below testdata. Its options are those of
// docker compose; Files are relative to the fixture.
type fixture struct {
	dir  string
	opts compose.Options
	from string // the working directory, below dir, when the files are discovered
}

var fixtures = []fixture{
	{dir: "list-env"}, {dir: "map-env"}, {dir: "env-file"}, {dir: "extends"}, {dir: "include"},
	{dir: "profiles", opts: compose.Options{Profiles: []string{"debug"}}},
	{dir: "several-files", opts: compose.Options{Files: []string{"base.yaml", "prod.yaml"}, ProjectName: "given"}},
	{dir: "anchors"}, {dir: "no-references"}, {dir: "expose-only"}, {dir: "database"}, {dir: "static-ip"},
	{dir: "replicas"}, {dir: "container-name"}, {dir: "aliases"}, {dir: "network-mode"}, {dir: "strategies"}, {dir: "jobs-hooks"}, {dir: "secrets-label"},
	{dir: "override", from: "sub/deeper"},
}

var overlayOptions = compose.OverlayOptions{FrontImage: "dso-front:1", FrontDir: "/run/dso/fronts"}

// enter makes the fixture's directory the current one and returns it.
func (f fixture) enter(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", f.dir))
	assert.NilError(t, err)
	t.Chdir(filepath.Join(dir, f.from))
	return dir
}

func (f fixture) load(t *testing.T) *compose.Project {
	t.Helper()
	p, err := compose.Load(t.Context(), f.opts)
	assert.NilError(t, err)
	return p
}

// args are the options as docker compose takes them, without files.
func (f fixture) args() []string {
	var args []string
	for _, p := range f.opts.Profiles {
		args = append(args, "--profile", p)
	}
	if f.opts.ProjectName != "" {
		args = append(args, "-p", f.opts.ProjectName)
	}
	return args
}

// binary is the real docker compose.
func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("DSO_DOCKER_COMPOSE")
	if bin == "" {
		t.Fatal("DSO_DOCKER_COMPOSE names no docker compose binary: run `make tools`")
	}
	abs, err := filepath.Abs(bin)
	assert.NilError(t, err)
	return abs
}

// rendered is what "docker compose config" prints, as far as tests look at it.
type rendered struct {
	Name     string
	Jobs     map[string]struct{ Runtime string }
	Services map[string]struct {
		Runtime     string
		Environment map[string]*string
		Labels      map[string]string
		Profiles    []string
		MacAddress  string `json:"mac_address"`
		Ports       []map[string]any
		Links       []string
		DependsOn   map[string]struct{ Condition string } `json:"depends_on"`
		Networks    map[string]*struct {
			Aliases     []string
			Ipv4Address string `json:"ipv4_address"`
			MacAddress  string `json:"mac_address"`
		}
		Volumes []struct{ Source, Target string }
	}
}

func config(t *testing.T, bin string, args ...string) rendered {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, append(args, "config", "--format", "json")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	assert.NilError(t, cmd.Run(), "%s", &stderr)
	var r rendered
	// It doubles dollar signs, so that its output can be loaded again.
	assert.NilError(t, json.Unmarshal([]byte(strings.ReplaceAll(stdout.String(), "$$", "$")), &r))
	return r
}

// fileArgs names files for docker compose.
func fileArgs(files ...string) []string {
	var args []string
	for _, f := range files {
		args = append(args, "-f", f)
	}
	return args
}
