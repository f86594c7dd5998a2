// Package docs runs the commands of the documentation, word for word.
package docs

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// block is one fenced block of a page.
type block struct {
	language string
	lines    []string
}

func blocks(t *testing.T, page string) []block {
	t.Helper()
	f, err := os.Open(page)
	assert.NilError(t, err)
	defer func() { _ = f.Close() }()
	var out []block
	open := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch language, fence := strings.CutPrefix(line, "```"); {
		case fence && open:
			open = false
		case fence:
			open = true
			out = append(out, block{language: language})
		case open:
			last := &out[len(out)-1]
			last.lines = append(last.lines, line)
		}
	}
	return out
}

// openLab is a host with an agent and the image that the pages call myapp.
func openLab(t *testing.T) (root string, l *lab.Lab) {
	t.Helper()
	root, err := filepath.Abs("../..")
	assert.NilError(t, err)
	l, err = lab.Open(t.Context(), root)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, l.Close()) })
	assert.NilError(t, l.StartAgent(t.Context()))
	_, err = l.Docker(t.Context(), "tag", lab.Answerer, "myapp")
	assert.NilError(t, err)
	return root, l
}

// The README's Compose file and its commands, one after the other, as a user
// would type them.
func TestREADME_EveryCommandWorks(t *testing.T) {
	root, l := openLab(t)
	var err error
	page := blocks(t, filepath.Join(root, "README.md"))
	dir := ""
	for _, b := range page {
		if b.language == "yaml" && b.lines[0] == "# compose.yaml" {
			dir, err = l.Project("readme", strings.Join(b.lines, "\n"))
			assert.NilError(t, err)
		}
	}
	assert.Assert(t, dir != "", "the README shows a compose.yaml")
	assert.Assert(t, runConsole(t, l, dir, page) >= 10, "the README has commands")
}

// runConsole runs the commands of a page's console blocks, each as a user would
// type it, and returns how many there were.
func runConsole(t *testing.T, l *lab.Lab, dir string, page []block) (ran int) {
	t.Helper()
	for _, b := range page {
		for _, line := range b.lines {
			command, ok := strings.CutPrefix(line, "$ ")
			if b.language != "console" || !ok {
				continue
			}
			out, err := l.CommandIn(t.Context(), dir, "bash", "-ec", command).CombinedOutput()
			assert.NilError(t, err, "%s\n%s", command, out)
			t.Logf("$ %s\n%s", command, out)
			ran++
		}
	}
	return ran
}

// docs/RECOVERY.md, on a host where a rotation was recovered and a journal was
// damaged.
func TestRECOVERY_EveryCommandWorks(t *testing.T) {
	root, l := openLab(t)
	dir, err := l.Project("recovery", `services: {web: {image: myapp, expose: ["8080"], environment: {APP_SECRET: dso://marker}}}`)
	assert.NilError(t, err)
	for _, step := range [][]string{{"init"}, {"secret", "set", "marker"}, {"up", "-d", "--wait"}} {
		out, err := l.DSOIn(t.Context(), dir, "v1", step...)
		assert.NilError(t, err, out)
	}
	assert.NilError(t, l.KillAgent())
	ready, err := l.LaunchAgent(t.Context(), []string{"DSO_FAILPOINT=rolling/forward/gate/after"})
	assert.NilError(t, err)
	assert.NilError(t, ready(t.Context()))
	_, err = l.DSOIn(t.Context(), dir, "v2", "secret", "set", "marker", "--no-wait")
	assert.NilError(t, err)
	assert.NilError(t, l.AwaitAgentEnd(t.Context()))
	assert.NilError(t, os.Truncate(l.HostPath("/var/lib/dso/state/rotations.json"), 100))
	assert.NilError(t, l.StartAgent(t.Context()))
	page := blocks(t, filepath.Join(root, "docs", "RECOVERY.md"))
	assert.Assert(t, runConsole(t, l, dir, page) >= 14, "the page has commands")
}

// pageIn runs a page in a project of its own: the one whose Compose file it shows.
func pageIn(t *testing.T, l *lab.Lab, root, name, project string, least int) {
	t.Helper()
	page := blocks(t, filepath.Join(root, "docs", name))
	compose := "services: {}"
	for _, b := range page {
		if b.language == "yaml" && b.lines[0] == "# compose.yaml" {
			compose = strings.Join(b.lines, "\n")
		}
	}
	dir, err := l.Project(project, compose)
	assert.NilError(t, err)
	assert.Assert(t, runConsole(t, l, dir, page) >= least, "%s has commands", name)
}

func TestGettingStarted_EveryCommandWorks(t *testing.T) {
	root, l := openLab(t)
	pageIn(t, l, root, "getting-started.md", "gettingstarted", 20)
}

func TestOperations_EveryCommandWorks(t *testing.T) {
	root, l := openLab(t)
	out, err := l.DSO(t.Context(), "init")
	assert.NilError(t, err, out)
	pageIn(t, l, root, "operations.md", "operations", 12)
}

func TestREADME_InstallPutsThePluginWhereDockerLooks(t *testing.T) {
	dest := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "make", "-C", "../..", "install", "DESTDIR="+dest).CombinedOutput()
	assert.NilError(t, err, string(out))
	for _, file := range []string{"bin/dso-agent", "bin/dso-runtime", "bin/dso-front", "bin/dso", "lib/docker/cli-plugins/docker-dso"} {
		info, err := os.Stat(filepath.Join(dest, "usr/local", file))
		assert.NilError(t, err)
		assert.Equal(t, info.Mode().Perm()&0o111, os.FileMode(0o111), file)
	}
}
