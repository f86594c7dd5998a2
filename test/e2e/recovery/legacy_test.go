package recovery

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/test/lab"
)

// What the older implementation leaves behind: killed between its two renames, and
// with copies that it never removed.
func TestLegacy_LeftoversAreDealtWithWhenAsked(t *testing.T) {
	if !shared.AgentRuns() {
		assert.NilError(t, shared.StartAgent(t.Context()))
	}
	t.Cleanup(func() { assert.Check(t, shared.KillAgent()) })
	run := func(name, image string, args ...string) {
		t.Helper()
		_, err := shared.Docker(t.Context(), append(append([]string{"run", "-d", "--name", name, "--label", "legacy", "-e", "APP_SECRET=plain"}, args...), image)...)
		assert.NilError(t, err)
	}
	docker := func(args ...string) string {
		t.Helper()
		out, err := shared.Docker(t.Context(), args...)
		assert.NilError(t, err)
		return out
	}
	names := func() []string {
		out := strings.Fields(docker("ps", "-a", "--filter", "label=legacy", "--format", "{{.Names}}"))
		slices.Sort(out)
		return out
	}
	t.Cleanup(func() {
		ids, err := shared.Docker(context.Background(), "ps", "-aq", "--filter", "label=legacy")
		assert.Check(t, err)
		_, err = shared.Docker(context.Background(), append([]string{"rm", "-fv"}, strings.Fields(ids)...)...)
		assert.Check(t, err)
	})
	run("web", lab.Answerer)
	run("web_old_1700000000", lab.Answerer, "-v", "/data")
	docker("stop", "-t", "0", "web_old_1700000000")
	run("pages", lab.Answerer)
	run("pages_dso_backup_1700000000", lab.Answerer)
	docker("stop", "-t", "0", "pages_dso_backup_1700000000")
	run("api_dso_backup_1700000000", lab.Answerer)
	run("api_dso_new_1700000001", lab.Answerer)
	run("db_old_2", lab.Answerer) // somebody's own
	run("mine", lab.Answerer)
	run("mine_dso_new_1700000000", lab.Datakeeper)
	backup := docker("inspect", "-f", "{{.Id}}", "api_dso_backup_1700000000")
	before := names()
	for _, name := range []string{"web", "pages", "api_dso_backup_1700000000", "api_dso_new_1700000001", "mine"} {
		awaitHealthy(t, name)
	}

	// The agent that starts touches none of them, and an old lock file no more.
	assert.NilError(t, shared.KillAgent())
	assert.NilError(t, shared.StartAgent(t.Context()))
	assert.DeepEqual(t, names(), before)
	lock := filepath.Join(shared.HostPath("/var/lib/dso/locks"), "app~db.lock")
	assert.NilError(t, os.WriteFile(lock, []byte("4194304\n"), 0o600))

	out, err := shared.DSO(t.Context(), "recover", "--adopt-legacy", "--dry-run", "--json")
	assert.NilError(t, err)
	var report struct{ Leftovers, Results []wire.Leftover }
	assert.NilError(t, json.Unmarshal([]byte(out), &report))
	assert.DeepEqual(t, decisions(report.Leftovers), map[string]string{
		"web_old_1700000000": "report", "pages_dso_backup_1700000000": "remove", "api_dso_backup_1700000000": "restore",
		"api_dso_new_1700000001": "remove", "db_old_2": "report", "mine_dso_new_1700000000": "report", "app~db.lock": "remove",
	})
	out, err = shared.DSO(t.Context(), "recover", "--adopt-legacy")
	assert.ErrorContains(t, err, "--yes does it", out)
	assert.DeepEqual(t, names(), before)

	out, err = shared.DSO(t.Context(), "recover", "--adopt-legacy", "--yes")
	assert.NilError(t, err, out)
	assert.Assert(t, strings.Contains(out, "the volume") && strings.Contains(out, "docker inspect web_old_1700000000"), out)
	assert.DeepEqual(t, names(), []string{"api", "db_old_2", "mine", "mine_dso_new_1700000000", "pages", "web", "web_old_1700000000"})
	assert.Equal(t, docker("inspect", "-f", "{{.Id}}", "api"), backup)
	_, err = os.Stat(lock)
	assert.Assert(t, os.IsNotExist(err))

	out, err = shared.DSO(t.Context(), "recover", "--adopt-legacy", "--yes", "--json")
	assert.NilError(t, err)
	report.Results = nil
	assert.NilError(t, json.Unmarshal([]byte(out), &report))
	assert.Equal(t, len(report.Results), 0)
	assert.Equal(t, len(report.Leftovers), 3)
}

func decisions(rows []wire.Leftover) map[string]string {
	out := map[string]string{}
	for _, l := range rows {
		out[filepath.Base(l.Name)] = l.Do
	}
	return out
}

func awaitHealthy(t *testing.T, name string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		out, err := shared.Docker(t.Context(), "inspect", "-f", "{{.State.Health.Status}}", name)
		assert.NilError(t, err)
		if out == "healthy" {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%s is %s", name, out)
		}
	}
}
