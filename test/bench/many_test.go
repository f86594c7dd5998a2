package bench

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// How many containers start at once, how often, and how much longer they may take
// with references than without DSO. One run of ten seconds differs from the next by a tenth
// on a busy host, and they all get slower: each is compared with its neighbour.
const (
	manyContainers = 100
	manyRuns       = 15
	maxManyRatio   = 1.1
)

func TestMany_StartAtOnceAlmostAsFastAsWithoutDSO(t *testing.T) {
	l, _ := ground(t)
	c := &changes{t: t, engine: dial(l.Socket()), agent: dial(l.HostPath("/run/dso/dso.sock"))}
	c.set("app/a", "value")

	var ids [2][]string
	for i, config := range []map[string]any{
		{"Runtime": "runc", "NetworkMode": "none"}, {"Runtime": "dso", "NetworkMode": "none"},
	} {
		env := []string{"A=value"}
		if config["Runtime"] == "dso" {
			env = []string{"A=dso://app/a", "B=dsofile://app/a"}
		}
		for range manyContainers {
			var made struct{ ID string }
			c.engine.call(t, http.MethodPost, "/containers/create", map[string]any{
				"Image": "busybox:test", "Cmd": []string{"sleep", "3600"}, "Env": env, "HostConfig": config,
				"Labels": map[string]string{"dso.reloader": "false"},
			}, &made)
			ids[i] = append(ids[i], made.ID)
		}
	}
	took := make([][]time.Duration, len(ids))
	for run := range manyRuns {
		for i := range ids {
			i = (i + run) % len(ids)
			begun := time.Now()
			c.each(ids[i], "start")
			took[i] = append(took[i], time.Since(begun))
			c.each(ids[i], "kill")
			c.each(ids[i], "wait")
		}
	}
	of, ratio := ratios(took), typical(took)
	m := medians(took)
	fmt.Printf("bench-many: containers=%d without_dso_ms=%s with_dso_ms=%s ratio=%.2f of=%.2f\n", manyContainers, ms(m[0]), ms(m[1]), ratio, of)
	assert.Check(t, ratio <= maxManyRatio)
}

// each does the same with all containers at once.
func (c *changes) each(ids []string, action string) {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { c.engine.call(c.t, http.MethodPost, "/containers/"+id+"/"+action, nil, nil) })
	}
	wg.Wait()
}
