package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

const targets = `version: 1
agent: {policy: strict}
secrets:
  - name: shop/db
    targets: {containers: ["shop-*"]}
    mappings: {DB_USER: "local/shop/db#user", DB_PASS: "local/shop/db#pass"}
  - name: shop/tls
    inject: {type: file, uid: 1000}
    targets: {labels: {tier: front}}
    rotation: {strategy: none}
`

func TestTargets_GiveAContainerWhatItsSpecificationDoesNotName(t *testing.T) {
	h := ownHost(t)
	conf := filepath.Join(h.Dir, "config", "dso.yaml")
	put(t, conf, targets)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.dso("init")
	h.set("shop/db", `{"user":"u1","pass":"p1"}`)
	h.set("shop/tls", "key one")
	h.set("other/secret", "not for them")

	h.run("shop-web", sleeper("-e", "DB_USER=of the image", "--health-cmd", `test "$DB_PASS" = p1 -o "$DB_PASS" = p2`, "--health-interval", "1s")...)
	h.run("front", sleeper("--label", "tier=front")...)
	h.run("plain", sleeper()...)
	assert.Check(t, is.Equal(h.environ("shop-web")["DB_USER"], "u1"))
	assert.Check(t, is.Equal(h.environ("shop-web")["DB_PASS"], "p1"))
	assert.Check(t, is.Equal(h.sh("shop-web", "printf '%s %s' $DB_USER $DB_PASS"), "u1 p1"))
	h.health("shop-web")
	assert.Check(t, is.Equal(h.environ("front")["SHOP_TLS"], "/run/secrets/dso/local/shop/tls"))
	assert.Check(t, is.Equal(h.sh("front", `cat "$SHOP_TLS"; printf %s "$(stat -c %u "$SHOP_TLS")"`), "key one1000"))
	_, given := h.environ("plain")["DB_USER"]
	assert.Check(t, !given)
	spec := h.docker("inspect", "shop-web", "front")
	for _, never := range []string{"u1", "p1\"", "key one", "dso://", "dsofile://"} {
		assert.Check(t, !strings.Contains(spec, never), never)
	}

	// They are looked after like any other.
	h.set("shop/db", `{"user":"u2","pass":"p2"}`)
	lab.Eventually(t, "shop-web is changed over", func() bool { return strings.Contains(h.processEnviron("shop-web"), "DB_PASS=p2\x00") })
	h.health("shop-web")
	h.set("shop/tls", "key two")
	lab.Eventually(t, "the file is another", func() bool { return h.sh("front", `cat "$SHOP_TLS"`) == "key two" })

	// The policy is strict: a name in the specification is not enough.
	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "thief", "-e", "V=dso://other/secret", busybox, "sleep", "3600")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.err, "policy strict: thief may not read dso://other/secret for V"))
	h.docker("rm", "-f", "thief")

	// Another target, while everything runs.
	put(t, conf, strings.Replace(targets, `["shop-*"]`, `["shop-*", plain]`, 1))
	lab.Eventually(t, "plain is given the secret", func() bool { return strings.Contains(h.processEnviron("plain"), "DB_PASS=p2\x00") })
}

// A container may also say itself which entries it wants, by their names.
func TestTargets_ALabelNamesThem(t *testing.T) {
	h := ownHost(t)
	conf := filepath.Join(h.Dir, "config", "dso.yaml")
	const entries = "secrets:\n  - name: shop/db\n    mappings: {DB_PASS: \"local/shop/db#pass\"}\n  - name: shop/api\n"
	put(t, conf, entries)
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.dso("init")
	h.set("shop/db", `{"pass":"p1"}`)
	h.set("shop/api", "k1")

	h.run("web", sleeper("--label", "dso.secrets=shop/db,shop/api")...)
	assert.Check(t, is.Equal(h.environ("web")["DB_PASS"], "p1"))
	assert.Check(t, is.Equal(h.environ("web")["SHOP_API"], "k1"))
	h.set("shop/db", `{"pass":"p2"}`)
	lab.Eventually(t, "web is changed over", func() bool { return strings.Contains(h.processEnviron("web"), "DB_PASS=p2\x00") })

	s := h.tryDocker("run", "-d", "--runtime", "dso", "--name", "typo", "--label", "dso.secrets=shop/dv", busybox, "sleep", "3600")
	assert.Check(t, s.code != 0)
	assert.Check(t, is.Contains(s.err, "dso: container typo: label dso.secrets names shop/dv, which it is not given"))
	assert.Check(t, is.Contains(h.dso("audit", "--what", "refuse"), "label dso.secrets names shop/dv"))
	h.docker("rm", "-f", "typo")

	// What is running goes on when its entry is gone, and is not changed over to less.
	put(t, conf, strings.Replace(entries, "name: shop/api", "name: shop/other", 1))
	lab.Eventually(t, "it is said", func() bool { return strings.Contains(h.dso("plan"), "names shop/api, which it is not given") })
	assert.Check(t, strings.Contains(h.processEnviron("web"), "SHOP_API=k1\x00"))
}

// processEnviron is the environment of a container's process, empty while there is none.
func (h *host) processEnviron(container string) string {
	s := h.tryDocker("inspect", "-f", "{{.State.Pid}}", container)
	if s.code != 0 {
		return ""
	}
	data, _ := os.ReadFile("/proc/" + strings.TrimSpace(s.out) + "/environ")
	return string(data)
}
