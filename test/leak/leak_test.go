package leak

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
	"github.com/docker-secret-operator/dso/test/search"
)

const project = `
services:
  web:
    image: ` + lab.Answerer + `
    ports: ["8080:8080"]
    environment:
      APP_SECRET: dso://token
  reader:
    image: ` + lab.Answerer + `
    environment:
      APP_SECRET_FILE: dsofile://token
      APP_RELOAD: "1"
    labels:
      dso.update.strategy: none
  worker:
    image: busybox:test
    command: ["sleep", "3600"]
    stop_signal: KILL
    environment:
      TOKEN: dso://token
      TOKEN_FILE: dsofile://token?mode=0444
    healthcheck:
      test: test "$$(cat $$TOKEN_FILE)" = "$$TOKEN"
      interval: 1s
    labels:
      dso.update.strategy: restart
`

// story is a lab in which values go the ways that values go.
type story struct {
	*lab.Lab
	t     *testing.T
	dir   string
	since time.Time
	said  strings.Builder // what every command printed that is not to print a value
}

func begin(t *testing.T) *story {
	t.Helper()
	root, err := filepath.Abs("../..")
	assert.NilError(t, err)
	s := &story{t: t, since: time.Now()}
	s.Lab, err = lab.Open(t.Context(), root)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.NilError(t, s.Close()) })
	assert.NilError(t, s.ImportBusybox(t.Context(), "busybox:test"))
	assert.NilError(t, s.StartAgent(t.Context()))
	s.dir, err = s.Project("shop", project)
	assert.NilError(t, err)
	s.dso("", "init")
	return s
}

// dso runs docker dso in the project.
func (s *story) dso(stdin string, args ...string) {
	s.t.Helper()
	out, err := s.DSOIn(s.t.Context(), s.dir, stdin, args...)
	s.said.WriteString(out)
	assert.NilError(s.t, err)
}

func (s *story) docker(args ...string) string {
	s.t.Helper()
	out, err := s.Docker(s.t.Context(), args...)
	s.said.WriteString(out)
	assert.NilError(s.t, err)
	return out
}

// refused runs docker, which must fail.
func (s *story) refused(args ...string) {
	s.t.Helper()
	out, err := s.Docker(s.t.Context(), args...)
	s.said.WriteString(out)
	assert.Assert(s.t, err != nil, "%q was not refused", args)
}

// has says what a container's process and an exec in it see.
func (s *story) has(container, value string) {
	s.t.Helper()
	var environ []byte
	// For a moment after a start, the process is still runc on its way to become
	// the container's.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) && !strings.Contains(string(environ), "\x00TOKEN=") {
		environ, _ = os.ReadFile("/proc/" + s.docker("inspect", "-f", "{{.State.Pid}}", container) + "/environ")
	}
	assert.Assert(s.t, strings.Contains(string(environ), "\x00TOKEN="+value+"\x00"), "%s does not have its value", container)
	out, err := s.Command(s.t.Context(), "docker", "exec", container, "sh", "-c", `printf %s "$(cat $TOKEN_FILE)"`).Output()
	assert.NilError(s.t, err)
	assert.Equal(s.t, string(out), value)
}

// tell goes through everything that is done with a secret.
func (s *story) tell(first, second string) {
	s.t.Helper()
	s.dso(first, "secret", "set", "token")
	s.dso("", "up", "-d", "--wait")
	s.docker("run", "-d", "--runtime", "dso", "--name", "single", "--restart", "always", "--stop-signal", "KILL",
		"-e", "TOKEN=dso://shop/token", "-e", "TOKEN_FILE=dsofile://shop/token", "busybox:test", "sleep", "3600")
	s.has("single", first)
	s.has("shop-worker-1", first)
	s.docker("commit", "single", "single:committed")

	s.dso(second, "secret", "set", "token")
	s.has("single", second)
	s.has("shop-worker-1", second)
	s.docker("exec", "-e", "MORE=dso://shop/token", "single", "true")
	s.dso("", "secret", "rollback", "token")
	s.has("single", first)
	s.dso("", "secret", "list")
	s.dso("", "secret", "history", "token", "--json")
	s.dso("", "status", "--json")
	s.dso("", "plan")
	s.dso("", "rotations", "--json")

	// Errors about a value do not quote it.
	s.refused("run", "--runtime", "dso", "-e", "X=dso://shop/token#field", "busybox:test", "true")
	s.dso(first+"\x00", "secret", "set", "binary", "--no-wait")
	s.refused("run", "--runtime", "dso", "-e", "X=dso://shop/binary", "busybox:test", "true")
	s.refused("run", "--runtime", "dso", "-e", "X=dso://shop/token", "busybox:test", "no-such-program")

	assert.NilError(s.t, s.KillAgent())
	s.docker("exec", "single", "true")
	assert.NilError(s.t, s.StartAgent(s.t.Context()))
	s.docker("restart", "single")
	s.has("single", first)
}

// watch looks at the processes again and again until it is stopped: most live
// for a moment only.
func watch(needles []search.Needle) (stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	found := make(chan []string)
	go func() {
		seen := map[string]bool{}
		var all []string
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, f := range findInProcesses(needles) {
				if !seen[f] {
					seen[f] = true
					all = append(all, f)
				}
			}
			<-tick.C
		}
		found <- all
	}()
	return func() []string { cancel(); return <-found }
}

func TestLeak_AValueIsNowhereButInItsContainers(t *testing.T) {
	s := begin(t)
	first, second := search.Canary(), search.Canary()
	needles := append(search.Needles(first), search.Needles(second)...)
	stop := watch(needles)
	s.tell(first, second)
	for _, f := range stop() {
		t.Errorf("for a while: %s", f)
	}
	for _, p := range places(t, s.Lab, s.since) {
		for _, f := range p.look(needles) {
			t.Errorf("%s: %s", p.name, f)
		}
	}
	assert.Check(t, search.Find([]byte(s.said.String()), needles) == "", "the output of a command")
	// It was there to be found: the private tmpfs is the one place that has it.
	assert.Check(t, len(search.Below(s.HostPath("/run/dso/private"), time.Time{}, needles)) > 0)
}

func TestLeak_TheAgentLeavesNoCore(t *testing.T) {
	s := begin(t)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.AgentPID()))
	assert.NilError(t, err)
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			assert.DeepEqual(t, strings.Fields(line)[4:6], []string{"0", "0"})
			return
		}
	}
	t.Fatalf("no line about core files: %s", limits)
}

// The search is worth what it finds: it must find a value in every place.
func TestSearch_FindsWhatIsPlantedInEveryPlace(t *testing.T) {
	s := begin(t)
	s.dso("v1", "secret", "set", "token")
	s.dso("", "up", "-d", "--wait")
	for i, p := range places(t, s.Lab, s.since) {
		t.Run(p.name, func(t *testing.T) {
			p := places(t, s.Lab, s.since)[i]
			value := rand.Text() + "planted" + rand.Text()
			needles := search.Needles(value)
			assert.Equal(t, len(p.look(needles)), 0, "before it was planted")
			remove := p.plant(t, value)
			found := p.look(needles)
			remove()
			assert.Assert(t, len(found) > 0)
		})
	}
}
