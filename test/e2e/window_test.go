package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"
)

// daily is a window that opens at a time of the day, for a minute.
func daily(at time.Time) string {
	return fmt.Sprintf(`{cron: "CRON_TZ=UTC %d %d * * *", duration: 1m}`, at.Minute(), at.Hour())
}

func TestWindow_HoldsBackAcrossTheAgentsRestart(t *testing.T) {
	h := ownHost(t)
	conf := filepath.Join(h.Dir, "config", "dso.yaml")
	opens := time.Now().UTC().Add(30 * time.Second).Truncate(time.Minute).Add(time.Minute)
	put(t, conf, "version: 1\ndefaults: {rotation: {window: "+daily(opens.Add(12*time.Hour))+"}}\n"+
		"secrets:\n- name: app/own\n  targets: {containers: [own]}\n  mappings: {V: local/app/own}\n  rotation: {window: "+daily(opens)+"}\n")
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	h.dso("init")
	h.set("app/own", "one")
	h.set("app/all", "one")
	h.run("own", sleeper()...)
	h.run("all", sleeper("-e", "V=dso://app/all")...)
	h.set("app/own", "two")
	h.set("app/all", "two")
	held := func() {
		t.Helper()
		for name, until := range map[string]time.Time{"own": opens, "all": opens.Add(12 * time.Hour)} {
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				if st := h.statusOf(name); st.HeldUntil.Equal(until) && !st.UpToDate {
					return poll.Success()
				}
				return poll.Continue("%s is not held back until %s: %+v", name, until, h.statusOf(name))
			}, poll.WithTimeout(10*time.Second))
		}
	}
	held()
	h.killAgent()
	assert.NilError(t, h.StartAgent(t.Context(), "-c", conf))
	held()
	assert.Assert(t, time.Now().Before(opens), "the machine is too slow for this test")
	assert.Check(t, h.carries("own", "one") && h.carries("all", "one"))

	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if h.carries("own", "two") {
			return poll.Success()
		}
		return poll.Continue("own is not changed over at %s", opens)
	}, poll.WithTimeout(2*time.Minute), poll.WithDelay(100*time.Millisecond))
	last := h.ended("own", time.Time{})
	assert.Check(t, !last.Started.Before(opens), "%s", last.Started)
	assert.Check(t, is.Equal(last.Cause, "rotation.window opened"))
	assert.Check(t, h.carries("all", "one"), "its window is another")

	h.dso("rotate", "all")
	assert.Check(t, h.carries("all", "two"))
}
