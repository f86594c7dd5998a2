package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/docker-secret-operator/dso/test/lab"
)

// A container notes at each start which values its hundred secrets have: never two.
func TestBurst_AHundredSecretsInASecondAreOneRotation(t *testing.T) {
	const secrets = 100
	h := ownHost(t)
	store, conf := filepath.Join(h.Dir, "store"), filepath.Join(h.Dir, "config", "dso.yaml")
	put(t, conf, "version: 1\nagent: {watch: {polling_interval: 24h}}\nproviders:\n  a: {type: file, config: {dir: "+store+"}}\n")
	set := func(i int, value string) { put(t, filepath.Join(store, fmt.Sprintf("s%02d", i)), value) }
	var env []string
	for i := range secrets {
		set(i, "one")
		env = append(env, "-e", fmt.Sprintf("S%02d=dso://a/s%02d", i, i))
	}
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	names := []string{"rolling", "restart", "beside"}
	starts := func(name string) string {
		text, err := os.ReadFile(filepath.Join(h.Dir, "starts-"+name, "starts"))
		assert.NilError(t, err)
		return string(text)
	}
	for _, name := range names {
		dir := filepath.Join(h.Dir, "starts-"+name)
		assert.NilError(t, os.MkdirAll(dir, 0o777))
		strategy := name
		if name == "beside" {
			strategy = "rolling"
		}
		h.run(name, append(env, "-v", dir+":/starts", "--label", "dso.update.strategy="+strategy, "--label", "dso.monitor=100ms", "--stop-signal", "KILL",
			busybox, "sh", "-c", `env | grep '^S[0-9][0-9]=' | cut -d= -f2 | sort | uniq -c | tr -s ' \n' ' ' >> /starts/starts; echo >> /starts/starts; exec sleep 3600`)...)
	}
	pace := time.NewTicker(time.Second / secrets)
	defer pace.Stop()
	for i := range secrets {
		set(i, "two")
		<-pace.C
	}
	for _, name := range names {
		assert.Check(t, is.Equal(h.ended(name, time.Time{}).Outcome, "rotated"), name)
	}
	burst := time.Now()
	// And one that changes ten times.
	for i := range 10 {
		set(0, fmt.Sprintf("two.%d", i))
		<-pace.C
	}
	set(0, "three")
	for _, name := range names {
		assert.Check(t, is.Equal(h.ended(name, burst).Outcome, "rotated"), name)
	}
	lab.Eventually(t, "everything is up to date", func() bool {
		for _, name := range names {
			if !h.statusOf(name).UpToDate {
				return false
			}
		}
		return true
	})
	for _, name := range names {
		assert.Check(t, is.Equal(strings.TrimSpace(starts(name)), "100 one \n 100 two \n 1 three 99 two"), name)
	}
}
