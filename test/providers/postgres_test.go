package providers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// postgres is a real PostgreSQL on loopback. Debian's package brings the programs and
// the user that it runs as.
type postgres struct {
	port     int
	password string // of the administrator
}

// programs returns where Debian puts them.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(found) == 0 {
		err = errors.New("PostgreSQL is not installed: run make providers")
	}
	if err != nil {
		return "", err
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// startPostgres starts a server for one test.
func startPostgres(t *testing.T) *postgres {
	t.Helper()
	bin, err := programs()
	assert.NilError(t, err)
	port, err := freePort()
	assert.NilError(t, err)
	dir, err := os.MkdirTemp("", "dso-postgres-")
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 { // PostgreSQL does not run as root
		u, err := user.Lookup("postgres")
		assert.NilError(t, err)
		uid, err := strconv.Atoi(u.Uid)
		assert.NilError(t, err)
		gid, err := strconv.Atoi(u.Gid)
		assert.NilError(t, err)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids are small
		assert.NilError(t, os.Chown(dir, uid, gid))
	}
	p := &postgres{port: port, password: "administrator"}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "LC_ALL=C"}, attr
		return cmd
	}
	secretFile := filepath.Join(dir, "password")
	assert.NilError(t, os.WriteFile(secretFile, []byte(p.password), 0o644))
	data := filepath.Join(dir, "data")
	out, err := command("initdb", "-D", data, "-U", "admin", "--pwfile", secretFile, "--auth=scram-sha-256", "--no-sync").CombinedOutput()
	assert.NilError(t, err, "%s", out)
	server := command("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off")
	log, err := os.Create(filepath.Join(dir, "log"))
	assert.NilError(t, err)
	server.Stdout, server.Stderr = log, log
	assert.NilError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
		assert.Check(t, log.Close())
	})
	assert.NilError(t, until(60*time.Second, func() error { return p.try("admin", p.password, "select 1") }))
	return p
}

// try runs a statement as a user.
func (p *postgres) try(username, password, statement string) error {
	cmd := exec.Command("psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", username, "-d", "postgres", "-c", statement)
	cmd.Env = []string{"PGPASSWORD=" + password, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}

// database mounts a database engine that knows the server.
func (b *bao) database(t *testing.T, p *postgres) string {
	t.Helper()
	mount := fmt.Sprintf("database-%d", b.next.Add(1))
	b.do(t, "POST", "sys/mounts/"+mount, o{"type": "database"})
	b.do(t, "POST", mount+"/config/shop", o{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "admin", "password": p.password,
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@127.0.0.1:%d/postgres?sslmode=disable", p.port),
	})
	return mount
}
