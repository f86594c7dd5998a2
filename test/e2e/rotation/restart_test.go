package rotation

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestRestart_ADatabaseOnAVolumeNeverRunsTwice(t *testing.T) {
	begin(t)
	set(t, "db/password", "v1")
	up(t, "db", `
services:
  db:
    image: datakeeper:test
    environment: {DB_PASSWORD: "dso://password"}
    volumes: ["data:/data"]
    expose: ["5432"]
volumes: {data: }
`)
	id := inspect(t, "db-db-1", "{{.Id}}")
	out := set(t, "db/password", "v2")
	assert.Assert(t, strings.Contains(out, "rotated (restart: it writes to volume db_data at /data"), out)
	assert.Equal(t, inspect(t, "db-db-1", "{{.Id}}"), id, "the same container, restarted in place")
	assert.Equal(t, inspect(t, "db-db-1", "{{.State.Running}} {{.State.ExitCode}}"), "true 0")
	logs := docker(t, "logs", "db-db-1")
	assert.Assert(t, !strings.Contains(logs, "two at once"), logs)
	noLeftovers(t)
}

func TestRolling_AnAnonymousVolumeKeepsItsData(t *testing.T) {
	begin(t)
	set(t, "anon/marker", "v1")
	remove(t, "keeper")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "keeper", "-v", "/data", "-e", "APP_SECRET=dso://anon/marker",
		"--label", "dso.update.strategy=rolling", "--label", "dso.monitor=100ms", "answerer:test")
	volume := inspect(t, "keeper", "{{range .Mounts}}{{.Name}}{{end}}")
	id := inspect(t, "keeper", "{{.Id}}")
	set(t, "anon/marker", "v2")
	assert.Assert(t, inspect(t, "keeper", "{{.Id}}") != id)
	assert.Equal(t, inspect(t, "keeper", "{{range .Mounts}}{{.Name}}{{end}}"), volume)
	docker(t, "volume", "inspect", volume)
}

func TestRestart_APublishedPortWithoutAFrontSaysWhy(t *testing.T) {
	begin(t)
	set(t, "plain/marker", "v1")
	remove(t, "plain")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "plain", "-p", "8120:8080", "-e", "APP_SECRET=dso://plain/marker", "answerer:test")
	out := set(t, "plain/marker", "v2")
	assert.Assert(t, strings.Contains(out, "rotated (restart: it publishes 8080/tcp itself"), out)
	assert.Equal(t, answer(t, url(8120)), "v2")

	remove(t, "asks")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "asks", "-p", "8121:8080", "-e", "APP_SECRET=dso://plain/marker",
		"--label", "dso.update.strategy=rolling", "answerer:test")
	out, err := shared.DSOIn(t.Context(), "/", "v3", "secret", "set", "plain/marker")
	assert.ErrorContains(t, err, "exit status 6")
	assert.Assert(t, strings.Contains(out, "asks asks for dso.update.strategy=rolling but it publishes"), out)
	assert.Equal(t, answer(t, url(8120)), "v3", "the other container is changed over all the same")
	assert.Equal(t, answer(t, url(8121)), "v2")
}

func TestRestart_ABadVersionIsTakenBack(t *testing.T) {
	begin(t)
	set(t, "badplain/marker", "v1")
	remove(t, "badplain")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "badplain", "-p", "8122:8080", "-e", "APP_SECRET=dso://badplain/marker",
		"-e", "APP_EXIT_IF=broken", "answerer:test")
	out, err := shared.DSOIn(t.Context(), "/", "broken", "secret", "set", "badplain/marker")
	assert.ErrorContains(t, err, "exit status 6")
	assert.Assert(t, strings.Contains(out, "rolled back"), out)
	assert.Equal(t, answer(t, url(8122)), "v1")
	docker(t, "restart", "badplain")
	lab.Eventually(t, "a restart gets the pinned version", func() bool {
		out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url(8122)).CombinedOutput()
		return strings.TrimSpace(string(out)) == "v1"
	})
}

func TestRestart_WhatLivesInItsNetworkIsRestartedToo(t *testing.T) {
	begin(t)
	set(t, "side/marker", "v1")
	remove(t, "sidecar", "main")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "main", "-e", "APP_SECRET=dso://side/marker", "answerer:test")
	docker(t, "run", "-d", "--name", "sidecar", "--network", "container:main", "-e", "APP_SECRET=v0", "-e", "PORT=8081", "answerer:test")
	out := set(t, "side/marker", "v2")
	assert.Assert(t, strings.Contains(out, "rotated (restart: other containers live in its network"), out)
	assert.Equal(t, docker(t, "exec", "sidecar", "/answerer", "get", "http://127.0.0.1:8080/"), "v2", "it sees the network that main has now")
}

func TestNone_FilesChangeInPlaceAndNothingElse(t *testing.T) {
	begin(t)
	set(t, "none/marker", "v1")
	remove(t, "live")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "live", "-p", "8123:8080", "-e", "APP_SECRET_FILE=dsofile://none/marker",
		"-e", "APP_RELOAD=1", "--label", "dso.update.strategy=none", "answerer:test")
	before := inspect(t, "live", "{{.Id}} {{.State.StartedAt}}")
	lab.Eventually(t, "it answers", func() bool {
		out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url(8123)).CombinedOutput()
		return strings.TrimSpace(string(out)) == "v1"
	})
	set(t, "none/marker", "v2")
	assert.Equal(t, answer(t, url(8123)), "v2")
	assert.Equal(t, inspect(t, "live", "{{.Id}} {{.State.StartedAt}}"), before)
}

func TestRotate_ByHandRotatesWhatIsUpToDate(t *testing.T) {
	begin(t)
	set(t, "hand/marker", "v1")
	remove(t, "hand")
	docker(t, "run", "-d", "--runtime", "dso", "--name", "hand", "-p", "8124:8080", "-e", "APP_SECRET=dso://hand/marker", "answerer:test")
	before := inspect(t, "hand", "{{.State.StartedAt}}")
	out := dso(t, "rotate", "hand")
	assert.Assert(t, strings.Contains(out, "hand: rotated (restart"), out)
	assert.Assert(t, inspect(t, "hand", "{{.State.StartedAt}}") != before)
	out = dso(t, "rotate", "hand/marker")
	assert.Assert(t, strings.Contains(out, "hand: rotated"), out)
	before = inspect(t, "hand", "{{.State.StartedAt}}")
	assert.Assert(t, strings.Contains(dso(t, "rotate", "hand", "--no-wait"), "begun"))
	lab.Eventually(t, "it is rotated all the same", func() bool { return inspect(t, "hand", "{{.State.StartedAt}}") != before })
	out, err := shared.DSO(t.Context(), "rotate", "nosuch")
	assert.Assert(t, err != nil || strings.Contains(out, "no running container uses it"), out)
}

// The same file works without any DSO command when it names the runtime itself.
func TestPlainCompose_WithTheRuntimeInTheFile(t *testing.T) {
	begin(t)
	set(t, "handmade/marker", "v1")
	dir, err := shared.Project("handmade", `
services:
  web:
    image: answerer:test
    runtime: dso
    ports: ["8125:8080"]
    environment: {APP_SECRET: "dso://marker"}
`)
	assert.NilError(t, err)
	compose := func(args ...string) string {
		out, err := shared.CommandIn(t.Context(), dir, "docker", append([]string{"compose"}, args...)...).CombinedOutput()
		assert.NilError(t, err, string(out))
		return string(out)
	}
	t.Cleanup(func() { _ = shared.CommandIn(t.Context(), dir, "docker", "compose", "down").Run() })
	compose("up", "-d", "--wait")
	assert.Equal(t, answer(t, url(8125)), "v1")
	out, err := shared.DSOIn(t.Context(), dir, "v2", "secret", "set", "marker")
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(out, "stored handmade/marker version 2"), out)
	assert.Equal(t, answer(t, url(8125)), "v2")
	assert.Assert(t, !strings.Contains(compose("up", "-d"), "Recreate"))
}
