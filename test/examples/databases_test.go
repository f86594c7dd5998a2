package examples

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// server is what an example shows that has a server which must not run twice.
type server struct {
	example, service, secret string
	// login asks the server with its own client, from the client's container, and returns
	// what was said.
	login   func(e *example, password string) (string, error)
	refusal string // what the server says to a wrong password
}

var postgres = server{
	example: "postgres", service: "db", secret: "db_password", refusal: "password authentication failed",
	login: func(e *example, password string) (string, error) {
		return e.in("client", []string{"PGPASSWORD=" + password}, "psql", "-qAt", "-c", "SELECT 1")
	},
}

var mysql = server{
	example: "mysql", service: "db", secret: "db_password", refusal: "Access denied",
	login: func(e *example, password string) (string, error) {
		return e.in("client", []string{"MYSQL_PWD=" + password}, "mariadb", "-h", "db", "-u", "app", "-e", "SELECT 1", "app")
	},
}

var redis = server{
	example: "redis", service: "redis", secret: "redis_password", refusal: "WRONGPASS",
	login: func(e *example, password string) (string, error) {
		// Without -e it exits with 0 whatever the server says.
		return e.in("client", []string{"REDISCLI_AUTH=" + password}, "redis-cli", "-e", "-h", "redis", "ping")
	},
}

// accepts requires that one password is good and another one is not.
func (s server) accepts(e *example, now, old string) {
	e.t.Helper()
	out, err := s.login(e, now)
	assert.NilError(e.t, err, out)
	out, err = s.login(e, old)
	assert.ErrorContains(e.t, err, s.refusal, "the password before is refused: %s", out)
}

func (s server) changesOver(t *testing.T) {
	e := open(t, s.example)
	e.works("client")
	process := e.process(s.service)

	var old, now string
	arguments := argumentsDuring(func() { old, now = e.rotate(s.secret) })

	assert.Assert(t, strings.Contains(arguments, "/scripts/password.sh"), "the command was seen")
	assert.Assert(t, !strings.Contains(arguments, old) && !strings.Contains(arguments, now), "a value is in an argument list")
	e.works("client")
	s.accepts(e, now, old)
	assert.Equal(t, e.process(s.service), process, "the server was not restarted")
	e.keepsSecrets()
	e.follow("End")
}

// argumentsDuring returns the arguments of all processes of the machine that were seen while
// something was done. What lives for less than a look can be missed.
func argumentsDuring(do func()) string {
	seen := map[string]bool{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, p := range processes {
				arguments, _ := os.ReadFile(p) // gone in the meantime: nothing to see
				seen[string(arguments)] = true
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	func() {
		defer close(stop)
		do()
	}()
	<-stopped
	return strings.ReplaceAll(strings.Join(slices.Collect(maps.Keys(seen)), "\n"), "\x00", " ")
}

// catchesUp sets a password while the server is down, with what it stores left behind.
func (s server) catchesUp(t *testing.T) {
	e := open(t, s.example)
	old := e.value(s.secret)
	e.follow("End")

	assert.NilError(t, run(e.command(t.Context(), "openssl rand -hex 24 | docker dso secret set "+s.secret)))
	assert.NilError(t, run(e.command(t.Context(), "docker dso up -d --wait")))

	s.accepts(e, e.value(s.secret), old)
}

// The databases are tested beside each other: most of it is waiting for health checks.
func TestPostgres(t *testing.T) {
	t.Parallel()
	t.Run("AcceptsTheNewPasswordAndWasNotRestarted", postgres.changesOver)
	t.Run("AcceptsAPasswordThatWasSetWhileItWasDown", postgres.catchesUp)
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	t.Run("AcceptsTheNewPasswordAndWasNotRestarted", mysql.changesOver)
	t.Run("AcceptsAPasswordThatWasSetWhileItWasDown", mysql.catchesUp)
	t.Run("DoesNotTakeUpARootPasswordThatTheServerDoesNotKnow", refusesTheRootPassword)
}

func TestRedis(t *testing.T) {
	t.Parallel()
	t.Run("AcceptsTheNewPasswordAndWasNotRestarted", redis.changesOver)
	t.Run("AcceptsAPasswordThatWasSetWhileItWasDown", redis.catchesUp)
}

// What the script needs to change the password is not changed behind its back.
func refusesTheRootPassword(t *testing.T) {
	e := open(t, mysql.example)
	err := run(e.command(t.Context(), "openssl rand -hex 24 | docker dso secret set db_root_password"))
	assert.ErrorContains(t, err, "exit status 6")
	assert.Assert(t, is.Contains(err.Error(), e.container(mysql.service)))
	_, err = e.in(mysql.service, nil, "sh", "/scripts/password.sh")
	assert.NilError(t, err, "the container has the root password before")
	e.works("client")
}
