package host

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api"
)

// request asks one method and prints the status of the answer, "nothing" where the agent has
// nothing of that name, or that the socket may not be opened. Every Debian has perl.
const request = `use IO::Socket::UNIX; my ($socket, $method, $path) = @ARGV;
my $s = IO::Socket::UNIX->new($socket) or do { print $!{EACCES} ? "closed" : "error: $!"; exit };
print $s "$method $path HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
my $line = <$s>; my ($code) = $line =~ /^HTTP\S+ (\d+)/ or do { print "error: $line"; exit };
if ($code == 404) { local $/; $code = "nothing" if <$s> =~ /"code":"not_found"/ }
print $code;`

var row = regexp.MustCompile("^\\| `(GET|POST|PUT) (/\\S+)` \\| (yes|no) \\| (yes|no) \\| (yes|no) \\|")

// Every method of the table, by each of the three; and no method is not in the table.
func TestAccess_IsWhatTheTableSays(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository(t), "docs/reference/access.md"))
	assert.NilError(t, err)
	d := newInstalled(t)
	d.sh("useradd -m -G dso member; useradd -m other")
	methods := api.Access()
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		pattern := m[1] + " " + m[2]
		_, there := methods[pattern]
		assert.Assert(t, there, "there is no method %s", pattern)
		delete(methods, pattern)
		for i, user := range []string{"root", "member", "other"} {
			got := d.run("runuser", "-u", user, "--", "perl", "-e", request, "/run/dso/dso.sock", m[1], m[2])
			may := got != "403" && got != "closed"
			assert.Equal(t, may, m[3+i] == "yes", "%s as %s: %s", pattern, user, got)
			assert.Assert(t, !strings.HasPrefix(got, "error") && got != "404", "%s as %s: %s", pattern, user, got)
		}
	}
	assert.Equal(t, len(methods), 0, "not in the table: %v", methods)
	for _, user := range []string{"member", "other"} {
		assert.Equal(t, d.run("runuser", "-u", user, "--", "perl", "-e", request, "/run/dso/runtime.sock", "GET", "/"), "closed")
	}
	assert.Equal(t, d.run("stat", "-c", "%a %U:%G", "/run/dso/dso.sock", "/run/dso/runtime.sock", "/run/dso/private", "/etc/dso"),
		"660 root:dso\n600 root:root\n700 root:root\n750 root:dso")
	out, err := d.Run(t.Context(), "runuser", "-u", "other", "--", "dso", "status")
	assert.Assert(t, err != nil && strings.Contains(out, "become a member of the group dso"), out)
	out, err = d.Run(t.Context(), "runuser", "-u", "member", "--", "dso", "setup", "--yes")
	assert.Assert(t, err != nil && strings.Contains(out, "only root"), out)
}
