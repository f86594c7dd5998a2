// Package rotation tests rotations end to end: real containers on a private
// engine, a real agent, real traffic, real kills.
package rotation

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

// The tests share one engine and one agent, and run one after the other.
var shared *lab.Lab

const root = "../../.."

func TestMain(m *testing.M) { os.Exit(lab.Main(m, root, &shared, prepare)) }

func prepare(ctx context.Context) error {
	if err := shared.ImportStatic(ctx, "load:test", filepath.Join(root, "bin", "load")); err != nil {
		return err
	}
	if err := shared.StartAgent(ctx); err != nil {
		return err
	}
	_, err := shared.DSO(ctx, "init")
	return err
}

// begin names the test in the log and shows the agent's part of it on a failure.
func begin(t *testing.T) {
	t.Helper()
	before, _ := os.ReadFile(shared.AgentLog())
	t.Cleanup(func() {
		if t.Failed() {
			after, _ := os.ReadFile(shared.AgentLog())
			t.Logf("the agent's log:\n%s", after[len(before):])
		}
	})
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := shared.Docker(t.Context(), args...)
	assert.NilError(t, err)
	return out
}

func dso(t *testing.T, args ...string) string {
	t.Helper()
	out, err := shared.DSO(t.Context(), args...)
	assert.NilError(t, err)
	return out
}

// set stores a value under a full name and waits for the rotations.
func set(t *testing.T, name, value string) string {
	t.Helper()
	out, err := shared.DSOIn(t.Context(), "/", value, "secret", "set", name)
	assert.NilError(t, err)
	return out
}

// remove deletes containers when the test is over.
func remove(t *testing.T, names ...string) {
	t.Cleanup(func() {
		_, _ = shared.Docker(context.Background(), append([]string{"rm", "-f", "-v"}, names...)...)
	})
}

// up brings a project up with docker dso, and takes it down when the test ends.
func up(t *testing.T, name, text string) string {
	t.Helper()
	dir, err := shared.Project(name, text)
	assert.NilError(t, err)
	t.Cleanup(func() {
		out, err := shared.DSOIn(context.Background(), dir, "", "down", "-v", "-t", "2")
		assert.Check(t, err, out)
	})
	out, err := shared.DSOIn(t.Context(), dir, "", "up", "-d", "--wait")
	assert.NilError(t, err, out)
	return dir
}

func inspect(t *testing.T, container, format string) string {
	t.Helper()
	return docker(t, "inspect", "-f", format, container)
}

// answer asks the application from another host.
func answer(t *testing.T, url string) string {
	t.Helper()
	out, err := shared.ClientCommand(t.Context(), "answerer", "get", url).CombinedOutput()
	assert.NilError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

func url(port int) string { return fmt.Sprintf("http://%s:%d/", shared.Address(), port) }

func noLeftovers(t *testing.T) {
	t.Helper()
	left, err := shared.Leftovers(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, strings.Join(left, "\n"), "")
}

// startLoad starts 200 requests per second from another host; the returned
// function ends it and requires that none failed.
func startLoad(t *testing.T, url string, args ...string) (floor func(string), finish func()) {
	t.Helper()
	l, err := shared.StartLoad(t.Context(), url, append([]string{"-rate", "200"}, args...)...)
	assert.NilError(t, err)
	return func(marker string) { assert.NilError(t, l.Floor(marker)) }, func() {
		t.Helper()
		r, err := l.Stop()
		assert.NilError(t, err)
		t.Logf("%d requests, p99 %.1f ms, longest gap %.0f ms", r.Requests, r.P99MS, r.GapMS)
		assert.Assert(t, r.Requests > 100)
		assert.Equal(t, r.Failed, 0, "%v", r.Errors)
		assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
	}
}
