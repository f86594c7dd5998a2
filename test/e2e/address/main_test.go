// Package address tests names and ports that do not move: the fast lane, what
// clients of every kind see while a service is rotated, and what is left when parts
// of it die.
package address

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// The tests share one engine, and run one after the other.
var shared *lab.Lab

const root = "../../.."

func TestMain(m *testing.M) { os.Exit(lab.Main(m, root, &shared, prepare)) }

func prepare(ctx context.Context) error {
	for _, app := range []string{"load", "answerer"} {
		if err := shared.ImportStatic(ctx, app+":client", filepath.Join(root, "bin", app)); err != nil {
			return err
		}
	}
	if err := shared.StartAgent(ctx); err != nil {
		return err
	}
	_, err := shared.DSO(ctx, "init")
	return err
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := shared.Docker(t.Context(), args...)
	assert.NilError(t, err)
	return out
}

func set(t *testing.T, name, value string) {
	t.Helper()
	out, err := shared.DSOIn(t.Context(), "/", value, "secret", "set", name)
	assert.NilError(t, err, out)
}

// up brings a project up with docker dso, and takes it down when the test ends.
func up(t *testing.T, name, text string) (dir string) {
	t.Helper()
	before, _ := os.ReadFile(shared.AgentLog())
	set(t, name+"/marker", "v1")
	dir, err := shared.Project(name, text)
	assert.NilError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			after, _ := os.ReadFile(shared.AgentLog())
			t.Logf("the agent's log:\n%s", after[len(before):])
		}
		out, err := shared.DSOIn(context.Background(), dir, "", "down", "-v", "-t", "2")
		assert.Check(t, err, out)
	})
	out, err := shared.DSOIn(t.Context(), dir, "", "up", "-d", "--wait")
	assert.NilError(t, err, out)
	return dir
}

func url(port int, path string) string {
	return fmt.Sprintf("http://%s:%d/%s", shared.Address(), port, path)
}

// outside asks from another host; empty when nobody answers.
func outside(t *testing.T, url string) string {
	t.Helper()
	out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url).Output()
	return strings.TrimSpace(string(out))
}

// onHost asks from the host itself; empty when nobody answers.
func onHost(t *testing.T, url string) string {
	t.Helper()
	out, _ := shared.Command(t.Context(), "answerer", "get", url).Output()
	return strings.TrimSpace(string(out))
}

// host runs a command on the host.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := shared.Command(t.Context(), name, args...).CombinedOutput()
	assert.NilError(t, err, "%s %s: %s", name, args, out)
	return string(out)
}

func tables(t *testing.T) string {
	t.Helper()
	return host(t, "nft", "list", "tables")
}
