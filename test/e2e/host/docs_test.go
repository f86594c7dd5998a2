package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// commands returns the lines of a page's blocks of one language that begin with a
// prefix, without it, up to a heading.
func commands(t *testing.T, page, language, prefix string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(t), page))
	assert.NilError(t, err)
	var found []string
	open := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		fence, ok := strings.CutPrefix(line, "```")
		switch {
		case ok && open != "":
			open = ""
		case ok:
			open = fence
		case open == language:
			if c, ok := strings.CutPrefix(line, prefix); ok {
				found = append(found, c)
			}
		}
	}
	return found
}

// play runs commands one after the other, as a user types them, in the directory where
// the package lies.
func (d *debian) play(lines []string) {
	d.t.Helper()
	for _, line := range lines {
		d.t.Log("$ " + line)
		d.sh("cd /root; " + line)
	}
}

func TestDocs_EveryCommandOfTheInstallPageWorks(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		assert.NilError(t, d.Copy(pkg(t, "deb"), "/root/docker-dso.deb", 0o644))
		lines := commands(t, "docs/install.md", "console", "$ ")
		for i, line := range lines {
			lines[i] = strings.Replace(line, "dso setup --yes", strings.Join(append([]string{"dso setup"}, m.setup()...), " ")+" --yes", 1)
		}
		assert.Assert(t, len(lines) >= 15, "%v", lines)
		d.play(lines)
		assert.Assert(t, !strings.Contains(d.run("docker", "info"), "dso"))
	})
}

// A bare Debian host, and somebody who follows the README.
func TestDocs_TheREADMEsInstallSectionWorks(t *testing.T) {
	d := newHost(t, service{})
	d.engineAnswers()
	assert.NilError(t, d.Copy(pkg(t, "deb"), "/root/docker-dso_4_amd64.deb", 0o644))
	lines := commands(t, "README.md", "sh", "")
	var install []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "make ") && line != "" {
			install = append(install, line)
		}
	}
	assert.Assert(t, len(install) >= 2, "%v", install)
	d.play(install)
	d.agentActive()
	d.run("docker", "dso", "init")
	d.set("app/marker", "v1")
	d.images()
	d.sleeper("web", "--runtime", "dso", "-e", "MARKER=dso://app/marker")
	assert.Assert(t, strings.Contains(d.environ("web"), "MARKER=v1\n"))
}
