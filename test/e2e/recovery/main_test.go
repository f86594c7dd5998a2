// Package recovery acts out the scenarios of docs/RECOVERY.md: what dies dies, and
// nobody types a command.
package recovery

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// The tests share one engine and run one after the other, each with its own agents.
var shared *lab.Lab

const root = "../../.."

func TestMain(m *testing.M) { os.Exit(lab.Main(m, root, &shared, nil)) }

// scene is one project with a service "web" behind a front, an agent, and requests
// running.
type scene struct {
	t         *testing.T
	name, dir string // of the project
	port      int
	web       string // the container's name
	from      int    // where the test begins in the agents' log
}

const project = `
services:
  web:
    image: answerer:test
    ports: ["%d:8080"]
    restart: always
    environment: {APP_SECRET: "dso://marker", APP_EXIT_IF: bad}
    labels: {dso.monitor: 100ms}
`

var ports = 8200

// begin brings a project up whose web answers v1.
func begin(t *testing.T, name string) *scene {
	t.Helper()
	return beginWith(t, name, project)
}

func beginWith(t *testing.T, name, project string) *scene {
	t.Helper()
	ports++
	s := &scene{t: t, name: name, port: ports, web: name + "-web-1"}
	s.from = len(s.log())
	t.Cleanup(s.end)
	if !shared.AgentRuns() {
		assert.NilError(t, shared.StartAgent(t.Context()))
	}
	_, err := shared.DSO(t.Context(), "init")
	assert.NilError(t, err)
	s.set("v1")
	s.dir, err = shared.Project(name, fmt.Sprintf(project, s.port))
	assert.NilError(t, err)
	out, err := shared.DSOIn(t.Context(), s.dir, "", "up", "-d", "--wait")
	assert.NilError(t, err, out)
	return s
}

func (s *scene) end() {
	if s.t.Failed() {
		s.t.Logf("the agents' log:\n%s", s.log())
	}
	if !shared.AgentRuns() {
		assert.Check(s.t, shared.StartAgent(context.Background()))
	}
	if s.dir != "" {
		out, err := shared.DSOIn(context.Background(), s.dir, "", "down", "-v", "-t", "2")
		assert.Check(s.t, err, out)
	}
	assert.Check(s.t, shared.KillAgent())
}

// log is what the agents said since the test began.
func (s *scene) log() string {
	text, _ := os.ReadFile(shared.AgentLog())
	return string(text[min(s.from, len(text)):])
}

// set stores the marker, and waits for no rotation.
func (s *scene) set(value string) {
	s.t.Helper()
	out, err := shared.DSOIn(s.t.Context(), "/", value, "secret", "set", s.name+"/marker", "--no-wait")
	assert.NilError(s.t, err, out)
}

// dieAt lets an agent die at a point of the rotation to value.
func (s *scene) dieAt(point, value string) {
	s.t.Helper()
	if shared.AgentRuns() {
		assert.NilError(s.t, shared.KillAgent())
	}
	ready, err := shared.LaunchAgent(s.t.Context(), []string{"DSO_FAILPOINT=" + point})
	assert.NilError(s.t, err)
	assert.NilError(s.t, ready(s.t.Context()))
	s.set(value)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	assert.NilError(s.t, shared.AwaitAgentEnd(ctx))
}

func (s *scene) startAgent() {
	s.t.Helper()
	assert.NilError(s.t, shared.StartAgent(s.t.Context()))
}

// underLoad sends requests until the test calls what is returned, which requires
// that none failed.
func (s *scene) underLoad() (finish func()) {
	s.t.Helper()
	l, err := shared.StartLoad(s.t.Context(), s.url(), "-rate", "100")
	assert.NilError(s.t, err)
	return func() {
		s.t.Helper()
		r, err := l.Stop()
		assert.NilError(s.t, err)
		assert.Assert(s.t, r.Requests > 50)
		assert.Equal(s.t, r.Failed, 0, "%v", r.Errors)
	}
}

func (s *scene) url() string { return fmt.Sprintf("http://%s:%d/", shared.Address(), s.port) }

func (s *scene) answer() string {
	out, _ := shared.ClientCommand(s.t.Context(), "answerer", "get", s.url()).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func (s *scene) awaitAnswer(marker string) {
	s.t.Helper()
	lab.Eventually(s.t, "it answers "+marker, func() bool { return s.answer() == marker })
}

// settles requires the end state: one healthy container in the place, that answers
// the marker, and nothing left over.
func (s *scene) settles(marker string) {
	s.t.Helper()
	s.awaitAnswer(marker)
	wrong, err := shared.CheckWithin(s.t.Context(), time.Minute, s.web)
	assert.NilError(s.t, err)
	assert.Equal(s.t, strings.Join(wrong, "\n"), "")
	assert.Equal(s.t, s.answer(), marker)
}

func (s *scene) docker(args ...string) string {
	s.t.Helper()
	out, err := shared.Docker(s.t.Context(), args...)
	assert.NilError(s.t, err)
	return out
}

func (s *scene) says(line string) {
	s.t.Helper()
	assert.Assert(s.t, strings.Contains(s.log(), line), "the log does not say %s", line)
}
