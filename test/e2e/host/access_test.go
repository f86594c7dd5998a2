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
	inBothModes(t, func(t *testing.T, m mode) {
		text, err := os.ReadFile(filepath.Join(repository(t), "docs/reference/access.md"))
		assert.NilError(t, err)
		d := newInstalled(t, m)
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
	})
}

// overHTTP asks the agent's address on the loopback and prints the status of the answer.
const overHTTP = `use IO::Socket::INET; my ($path, $token) = @ARGV;
my $s = IO::Socket::INET->new("127.0.0.1:8471") or do { print "closed"; exit };
print $s "GET $path HTTP/1.0\r\n", $token ? "Authorization: Bearer $token\r\n" : "", "\r\n";
print <$s> =~ /^HTTP\S+ (\d+)/ ? $1 : "error";`

// Whoever is on the host sees the health and the metrics, and nothing more without the token.
func TestAccess_OverHTTPNeedsTheToken(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		d.sh("useradd -m other")
		ask := func(path, token string) string {
			t.Helper()
			return d.run("runuser", "-u", "other", "--", "perl", "-e", overHTTP, path, token)
		}
		open, closed := []string{"/health", "/metrics"}, []string{"/api/status", "/api/secrets", "/api/rotations", "/api/events"}
		for _, path := range open {
			assert.Equal(t, ask(path, ""), "200", path)
		}
		for _, path := range closed {
			assert.Equal(t, ask(path, ""), "403", path)
		}
		const token = "a-token-that-is-long-enough-for-anybody"
		assert.NilError(t, d.Write("/etc/dso/rest-token", token, 0o640))
		assert.NilError(t, d.Write("/etc/dso/dso.yaml", "version: 1\nagent:\n  rest: {token_file: /etc/dso/rest-token}\n", 0o640))
		m.reload(d)
		for _, path := range open {
			assert.Equal(t, ask(path, ""), "200", path)
		}
		for _, path := range closed {
			assert.Equal(t, ask(path, ""), "401", path)
			assert.Equal(t, ask(path, "another-token-that-is-long-enough-too"), "401", path)
			assert.Equal(t, ask(path, token), "200", path)
		}
		assert.Equal(t, ask("/v1/secrets", token), "404", "what the socket has is not here")
	})
}
