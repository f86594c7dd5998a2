package e2e

import (
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/test/lab"
)

// ended waits until a rotation of the container that began after that time is over. One
// in place has the place of the one before in the journal.
func (h *host) ended(container string, after time.Time) (last wire.Rotation) {
	h.t.Helper()
	lab.Eventually(h.t, container+" is changed over", func() bool {
		all, err := h.Rotations(h.t.Context())
		assert.NilError(h.t, err)
		last = wire.Rotation{}
		for _, r := range all {
			if r.Container == container && r.Started.After(after) && r.Started.After(last.Started) {
				last = r
			}
		}
		return !last.Started.IsZero() && !last.Pending
	})
	return last
}

func TestReload_BySignal(t *testing.T) {
	h := ownHost(t)
	h.startAgent()
	h.dso("init")
	h.set("app/marker", "v1")
	h.run("sig", "--restart", "unless-stopped", "-e", "APP_SECRET_FILE=dsofile://app/marker", "-e", "APP_UNHEALTHY_IF=bad",
		"--label", "dso.update.strategy=signal", "--label", "dso.monitor=200ms", lab.Answerer)
	h.health("sig")
	answer := func() string { return h.exec("sig", "/answerer", "get", "http://127.0.0.1:8080/") }
	assert.Equal(t, answer(), "v1\n")
	started := h.inspect("sig", "{{.State.StartedAt}}")

	h.set("app/marker", "v2")
	last := h.ended("sig", time.Time{})
	assert.Check(t, is.Equal(last.Outcome, "rotated"))
	assert.Equal(t, answer(), "v2\n")

	// A version that its health check does not pass with: back, files and process.
	h.set("app/marker", "v3 bad")
	last = h.ended("sig", last.Started)
	assert.Check(t, is.Equal(last.Outcome, "rolled_back"))
	assert.Check(t, is.Equal(answer(), "v2\n"))
	assert.Check(t, h.statusOf("sig").Pinned)
	assert.Check(t, is.Equal(h.inspect("sig", "{{.State.StartedAt}}"), started), "it was never restarted")

	// To the engine nobody has stopped it: it starts it again at the next boot.
	h.set("app/marker", "v4")
	assert.Check(t, is.Equal(h.ended("sig", last.Started).Outcome, "rotated"))
	h.killAgent()
	assert.NilError(t, h.CutPower(t.Context()))
	ready, err := h.LaunchAgent(t.Context(), nil)
	assert.NilError(t, err)
	assert.NilError(t, h.StartDaemon(t.Context()))
	assert.NilError(t, ready(t.Context()))
	lab.Eventually(t, "the engine has started it again", func() bool { return h.running("sig") })
	h.health("sig")
	assert.Equal(t, answer(), "v4\n")
}

func TestReload_ByACommand(t *testing.T) {
	h := sharedHost(t)
	h.set("app/cmd", "one")
	h.run("cmd", sleeper("-e", "F=dsofile://app/cmd", "--label", "dso.update.strategy=exec", "--label", "dso.monitor=200ms",
		"--label", `dso.update.exec=grep -q bad "$F" && exit 3; cp "$F" /tmp/loaded`)...)
	h.set("app/cmd", "two")
	last := h.ended("cmd", time.Time{})
	assert.Check(t, is.Equal(last.Outcome, "rotated"))
	assert.Check(t, is.Equal(h.sh("cmd", "cat /tmp/loaded"), "two"))

	h.set("app/cmd", "a bad one")
	last = h.ended("cmd", last.Started)
	assert.Check(t, is.Equal(last.Outcome, "rolled_back"))
	assert.Check(t, is.Equal(last.Error, "exec: the container does not take the new files: its command ended with exit code 3"))
	assert.Check(t, is.Equal(h.sh("cmd", `cat "$F" /tmp/loaded`), "twotwo"))
	assert.Check(t, h.statusOf("cmd").Pinned)
}

func TestReload_OfWhatTheEnvironmentHoldsIsRefused(t *testing.T) {
	h := sharedHost(t)
	h.set("app/user", "one")
	h.set("app/pass", "one")
	h.run("both", sleeper("-e", "U=dso://app/user", "-e", "P=dsofile://app/pass", "--label", "dso.update.strategy=signal")...)
	h.set("app/user", "two")
	s := h.tryDSO("/", "", "rotate", "both")
	assert.Check(t, s.code != 0, s.all())
	assert.Check(t, is.Contains(s.all(), "local:app/user reaches it in its environment"))
}

const ownPaths = `version: 1
secrets:
  - name: shop/tls
    inject: {type: file, path: /etc/shop/tls.key, uid: 1000, gid: 2000}
    targets: {containers: [tls]}
    rotation: {strategy: restart}
  - name: shop/conf
    inject: {type: file, path: /run/secrets/dso/app/conf}
    targets: {containers: [tls]}
    rotation: {enabled: false}
`

func TestTargets_AFileHasThePathThatItIsGiven(t *testing.T) {
	h := ownHost(t)
	conf := h.Dir + "/config/dso.yaml"
	put(t, conf, ownPaths)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.dso("init")
	h.set("shop/tls", "key one")
	h.set("shop/conf", "conf one")
	h.run("tls", sleeper("--read-only")...)
	assert.Check(t, is.Equal(h.environ("tls")["SHOP_TLS"], "/etc/shop/tls.key"))
	assert.Check(t, is.Equal(h.environ("tls")["SHOP_CONF"], "/run/secrets/dso/app/conf"))
	assert.Check(t, is.Equal(h.sh("tls", `cat /etc/shop/tls.key; stat -c %u:%g:%a /etc/shop/tls.key`), "key one1000:2000:400\n"))
	assert.Check(t, is.Equal(h.sh("tls", `cat /run/secrets/dso/app/conf`), "conf one"))
	options := h.sh("tls", "grep ' /etc/shop/tls.key ' /proc/mounts")
	for _, o := range []string{"ro,", "nosuid", "nodev", "noexec"} {
		assert.Check(t, is.Contains(options, o))
	}
	assert.Check(t, !strings.Contains(h.docker("inspect", "tls"), "tls.key"))

	// rotation.enabled: false
	h.set("shop/conf", "conf two")
	lab.Eventually(t, "the change is seen and held back", func() bool {
		return strings.Contains(h.statusOf("tls").Held, "held back by rotation.enabled: false of local:shop/conf")
	})
	assert.Check(t, is.Contains(h.dso("status"), "held back by rotation.enabled: false of local:shop/conf"))
	h.set("shop/tls", "key two")
	assert.Check(t, is.Equal(h.ended("tls", time.Time{}).Outcome, "rotated"))
	assert.Check(t, is.Equal(h.sh("tls", `cat /etc/shop/tls.key /run/secrets/dso/app/conf`), "key twoconf one"))
	h.dso("rotate", "tls")
	assert.Check(t, is.Equal(h.sh("tls", `cat /etc/shop/tls.key /run/secrets/dso/app/conf`), "key twoconf two"))
}
