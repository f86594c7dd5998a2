package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

func TestAgentDown_AStartWaitsAndThenFailsWithTheReason(t *testing.T) {
	h := sharedHost(t)
	h.set("app/waits", "x")
	h.deadline("1s")
	h.killAgent()
	before := time.Now()
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "waits", "-e", "V=dso://app/waits", busybox, "sleep", "3600")
	took := time.Since(before)
	assert.Check(t, s.code != 0)
	assert.Check(t, took > 900*time.Millisecond && took < 6*time.Second, "it took %s", took)
	for where, text := range map[string]string{"docker run": s.all(), "State.Error": h.inspect("waits", "{{.State.Error}}")} {
		for _, want := range []string{"dso: cannot resolve dso://app/waits", "no agent answers on /run/dso/runtime.sock (waited 1s)", "is dso-agent running?"} {
			assert.Check(t, is.Contains(text, want), where)
		}
	}
	assert.Check(t, !h.running("waits"))

	h.startAgent()
	h.docker("start", "waits")
	assert.Check(t, is.Equal(h.environ("waits")["V"], "x"))
}

func TestAgentDown_AnAgentThatComesUpServesTheWaitingStart(t *testing.T) {
	h := sharedHost(t)
	h.set("app/waiting", "x")
	h.deadline("20s")
	h.killAgent()
	done := make(chan said, 1)
	go func() {
		done <- h.tryDocker("run", "-d", "--runtime", "dso", "--name", "waiting", "-e", "V=dso://app/waiting", busybox, "sleep", "3600")
	}()
	lab.Eventually(t, "the start waits", func() bool { return h.runtimePID() != "" })
	h.startAgent()
	s := <-done
	assert.Equal(t, s.code, 0, s.all())
	assert.Equal(t, h.environ("waiting")["V"], "x")
}

// runtimePID is the process of a dso-runtime of this engine that is at work;
// empty when there is none.
func (h *host) runtimePID() string {
	h.t.Helper()
	entries, err := os.ReadDir("/proc")
	assert.NilError(h.t, err)
	for _, e := range entries {
		cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		program, args, _ := strings.Cut(string(cmdline), "\x00")
		if err == nil && filepath.Base(program) == "dso-runtime" && strings.Contains(args, h.Engine.Dir()) {
			return e.Name()
		}
	}
	return ""
}

func TestAgentDown_TheAgentStartsWhatShouldRun(t *testing.T) {
	h := sharedHost(t)
	h.set("app/late", "x")
	h.deadline("100ms")
	h.killAgent()
	policies := map[string]bool{"always": true, "unless-stopped": true, "on-failure": true, "no": false}
	for policy := range policies {
		s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", policy, "--restart", policy, "-e", "V=dso://app/late", busybox, "sleep", "3600")
		assert.Assert(t, s.code != 0, policy)
	}
	h.startAgent()
	for policy, wanted := range policies {
		if wanted {
			lab.Eventually(t, policy+" runs", func() bool { return h.running(policy) })
			assert.Check(t, is.Equal(h.environ(policy)["V"], "x"))
		}
	}
	assert.Check(t, !h.running("no"))
}

func TestAgentDown_TheAgentDoesNotStartWhatFailedForOtherReasons(t *testing.T) {
	h := sharedHost(t)
	h.set("app/other", "x")
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "broken", "--restart", "always", "-e", "V=dso://app/other", busybox, "no-such-program")
	assert.Assert(t, s.code != 0)
	h.run("stopped", sleeper("--restart", "always", "-e", "V=dso://app/other")...)
	h.docker("stop", "-t", "0", "stopped")
	h.killAgent()
	h.startAgent()
	// The status asks for every container, after the comparison at the start.
	h.dso("status")
	assert.Check(t, !h.running("broken"))
	assert.Check(t, !h.running("stopped"))
}

func TestAgentDown_AStartThatKeepsFailingIsNotTriedInALoop(t *testing.T) {
	h := sharedHost(t)
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "hopeless", "--restart", "always", "-e", "V=dso://app/hopeless", busybox, "sleep", "3600")
	assert.Assert(t, s.code != 0)
	h.killAgent()
	before, err := os.ReadFile(h.AgentLog())
	assert.NilError(t, err)
	h.startAgent()
	h.set("app/hopeful", "x") // three changes that lead to comparisons
	h.set("app/hopeful", "y")
	h.set("app/hopeful", "z")
	log, err := os.ReadFile(h.AgentLog())
	assert.NilError(t, err)
	tried := strings.Count(string(log[len(before):]), "starting a container whose start had failed")
	assert.Check(t, tried >= 1 && tried <= 8, "tried %d times", tried)

	h.set("app/hopeless", "hope")
	defer h.dso("secret", "delete", "app/hopeless", "--force")
	lab.Eventually(t, "it runs once its secret is there", func() bool { return h.running("hopeless") })
}

func TestAgentDown_ContainersWithoutReferencesNeedNoAgent(t *testing.T) {
	h := ownHost(t) // nothing of the agent was ever here
	before := time.Now()
	h.run("plain", sleeper("-e", "V=plain")...)
	assert.Check(t, time.Since(before) < 8*time.Second, "it did not wait for an agent")
	assert.Check(t, is.Equal(h.sh("plain", `echo "$V"`), "plain\n"))
	h.docker("restart", "-t", "0", "plain")
	assert.Check(t, h.running("plain"))
	_, err := os.Stat(h.HostPath("/run/dso/private"))
	assert.Check(t, os.IsNotExist(err))
}

func TestEngineRestart_ContainersComeBackWithTheirValues(t *testing.T) {
	h := sharedHost(t)
	h.set("app/back", "one")
	for how, down := range map[string]func() error{"stopped": h.Stop, "killed": h.Kill} {
		t.Run(how, func(t *testing.T) {
			h := h.in(t)
			h.run(how, sleeper("--restart", "always", "--label", "dso.reloader=false", "-e", "V=dso://app/back", "-e", "F=dsofile://app/back")...)
			pid := h.inspect(how, "{{.State.Pid}}")
			assert.NilError(t, down())
			assert.NilError(t, h.StartDaemon(t.Context()))
			lab.Eventually(t, "the container runs again", func() bool {
				return h.running(how) && h.inspect(how, "{{.State.Pid}}") != pid
			})
			assert.Check(t, is.Equal(h.environ(how)["V"], "one"))
			assert.Check(t, is.Equal(h.sh(how, `cat "$F"`), "one"))
		})
	}
}

func TestEngineRestart_AnAgentThatComesLaterStartsThem(t *testing.T) {
	h := sharedHost(t)
	h.set("app/boot", "one")
	h.deadline("300ms")
	h.run("boot", sleeper("--restart", "unless-stopped", "-e", "V=dso://app/boot", "-e", "F=dsofile://app/boot")...)
	h.killAgent()
	assert.NilError(t, h.Stop())
	assert.NilError(t, h.StartDaemon(t.Context()))
	lab.Eventually(t, "the engine has given up", func() bool {
		return strings.Contains(h.inspect("boot", "{{.State.Error}}"), "no agent answers")
	})
	h.startAgent()
	lab.Eventually(t, "the container runs again", func() bool { return h.running("boot") })
	assert.Check(t, is.Equal(h.environ("boot")["V"], "one"))
}

func TestAgent_DeletesTheBundleOfARuntimeThatWasKilled(t *testing.T) {
	h := sharedHost(t)
	h.set("app/killed", "x")
	// The real runtime takes its time, so that dso-runtime dies in the middle.
	slow := filepath.Join(t.TempDir(), "slow")
	assert.NilError(t, os.WriteFile(slow, []byte("#!/bin/sh\ncase \"$*\" in *create*) exec sleep 3;; esac\nexec runc \"$@\"\n"), 0o755))
	h.runtimeOption("--dso-runtime=" + slow)
	bundles := func() []string {
		return slices.DeleteFunc(h.privateFiles(), func(f string) bool { return !strings.HasPrefix(f, "bundles/") })
	}
	done := make(chan said, 1)
	go func() {
		done <- h.tryDocker("run", "-d", "--runtime", "dso", "-e", "V=dso://app/killed", busybox, "true")
	}()
	lab.Eventually(t, "the bundle is there", func() bool { return len(bundles()) == 2 })
	h.killProcess(h.runtimePID())
	<-done
	assert.Assert(t, len(bundles()) > 0, "nobody could delete it")
	h.killAgent()
	h.startAgent()
	assert.Check(t, is.Len(bundles(), 0))
}

func TestAgent_ASecondOneIsRefused(t *testing.T) {
	h := sharedHost(t)
	s := h.try(h.Command(t.Context(), "dso-agent"), "")
	assert.Check(t, is.Equal(s.code, 1))
	assert.Check(t, is.Contains(s.all(), "another agent is running: pid "+strconv.Itoa(h.AgentPID())+" since 20"))
	h.dso("status") // the first one goes on serving
}
