package examples

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// example is one of the examples, in a directory of its own in which a user would work.
type example struct {
	t      *testing.T
	name   string
	dir    string
	said   map[string][]string // the commands of the README, by section
	values []string            // every value that its secrets had
}

// open copies an example and starts it as its README says.
func open(t *testing.T, name string) *example {
	t.Helper()
	from := filepath.Join(root, "examples", name)
	e := &example{t: t, name: name, dir: filepath.Join(shared.Dir, name), said: commands(t, filepath.Join(from, "README.md"))}
	assert.NilError(t, os.CopyFS(e.dir, os.DirFS(from)))
	logged, _ := os.ReadFile(shared.AgentLog())
	t.Cleanup(func() {
		if t.Failed() {
			e.show(len(logged))
		}
		assert.Check(t, run(e.command(context.Background(), "docker dso down -v -t 2")))
		assert.Check(t, os.RemoveAll(e.dir))
	})
	e.follow("Start")
	return e
}

// show logs what a person would look at first.
func (e *example) show(before int) {
	ctx := context.Background()
	logs, _ := e.command(ctx, "docker dso compose ps -a; docker dso compose logs --no-color --tail 50; for id in $(docker dso compose ps -aq); do docker inspect -f '{{.Name}} {{json .State}}' $id; done").CombinedOutput()
	agent, _ := os.ReadFile(shared.AgentLog())
	e.t.Logf("the project:\n%s\nthe agent's log:\n%s", logs, agent[before:])
}

// command is a line of the shell in the example's directory.
func (e *example) command(ctx context.Context, line string) *exec.Cmd {
	cmd := shared.CommandIn(ctx, e.dir, "bash", "-ec", "set -o pipefail; "+line)
	for variable := range images {
		cmd.Env = append(cmd.Env, variable+"="+imageOf(variable))
	}
	return cmd
}

// follow runs the commands of a section of the README, each as a user would type it.
func (e *example) follow(section string) {
	e.t.Helper()
	assert.Assert(e.t, len(e.said[section]) > 0, "the README has commands below %q", section)
	for _, line := range e.said[section] {
		out, err := e.command(e.t.Context(), line).CombinedOutput()
		assert.NilError(e.t, err, "%s\n%s", line, out)
		e.t.Logf("$ %s\n%s", line, out)
	}
}

// rotate follows the README's section about that, and returns a secret's value before and
// after it.
func (e *example) rotate(secret string) (before, after string) {
	e.t.Helper()
	before = e.value(secret)
	e.follow("Rotate")
	after = e.value(secret)
	assert.Assert(e.t, before != after, "the README sets another value")
	return before, after
}

// value is what a secret of the project is now.
func (e *example) value(secret string) string {
	e.t.Helper()
	out, err := e.command(e.t.Context(), "docker dso fetch --value "+secret).Output()
	assert.NilError(e.t, err)
	value := strings.TrimSpace(string(out))
	assert.Assert(e.t, value != "")
	e.values = append(e.values, strings.Fields(value)...)
	return value
}

// in runs a command in a container of the project, with variables of the shell's kind.
func (e *example) in(service string, env []string, command ...string) (string, error) {
	args := []string{"exec"}
	for _, v := range env {
		args = append(args, "-e", v)
	}
	return shared.Docker(e.t.Context(), append(append(args, e.container(service)), command...)...)
}

func (e *example) container(service string) string { return fmt.Sprintf("%s-%s-1", e.name, service) }

// process tells one start of a container from another.
func (e *example) process(service string) string {
	e.t.Helper()
	out, err := shared.Docker(e.t.Context(), "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", e.container(service))
	assert.NilError(e.t, err)
	return out
}

// works requires that a client has done a piece of work since now, by the health check that
// takes its mark away.
func (e *example) works(service string) {
	e.t.Helper()
	_, _ = e.in(service, nil, "rm", "-f", "/tmp/worked")
	lab.Eventually(e.t, service+" works", func() bool {
		_, err := e.in(service, nil, "test", "-e", "/tmp/worked")
		return err == nil
	})
}

// keepsSecrets requires that the engine knows none of the values that the secrets had.
func (e *example) keepsSecrets() {
	e.t.Helper()
	ids, err := shared.Docker(e.t.Context(), "ps", "-aq", "--filter", "label=com.docker.compose.project="+e.name)
	assert.NilError(e.t, err)
	known, err := shared.Docker(e.t.Context(), append([]string{"inspect"}, strings.Fields(ids)...)...)
	assert.NilError(e.t, err)
	assert.Assert(e.t, len(e.values) >= 2)
	for _, value := range e.values {
		assert.Assert(e.t, !strings.Contains(known, value), "docker inspect shows a value")
	}
}

// loaded runs a rotation under load, of which no request may fail.
func (e *example) loaded(path string, rotation func()) {
	e.t.Helper()
	l, err := shared.StartLoad(e.t.Context(), e.url(path), "-rate", "50")
	assert.NilError(e.t, err)
	rotation()
	r, err := l.Stop()
	assert.NilError(e.t, err)
	e.t.Logf("%d requests, p99 %.1f ms, longest gap %.0f ms", r.Requests, r.P99MS, r.GapMS)
	assert.Assert(e.t, r.Requests > 50)
	assert.Equal(e.t, r.Failed, 0, "%v", r.Errors)
}

func (e *example) url(path string) string { return "http://" + shared.Address() + ":8080" + path }

// commands are the lines of a README's console blocks, by section.
func commands(t *testing.T, page string) map[string][]string {
	t.Helper()
	f, err := os.Open(page)
	assert.NilError(t, err)
	defer f.Close()
	said := map[string][]string{}
	section, console := "", false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch command, isCommand := strings.CutPrefix(line, "$ "); {
		case strings.HasPrefix(line, "```"):
			console = line == "```console"
		case console && isCommand:
			said[section] = append(said[section], command)
		case !console && strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		}
	}
	return said
}

// run is cmd.Run with what the command said in the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
