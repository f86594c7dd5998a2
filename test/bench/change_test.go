package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// The limits, as ratios to what the engine alone needs, measured in turn with it.
const (
	maxRestartRatio = 1.05 // to docker restart
	maxRollingRatio = 1.15 // to docker create and docker start
)

const changeRuns = 25

// socket speaks HTTP to a unix socket.
type socket struct{ http.Client }

func dial(path string) *socket {
	return &socket{http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}}
}

// call sends a request and reads the answer into into, unless that is nil.
func (s *socket) call(t *testing.T, method, path string, body, into any) {
	t.Helper()
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		assert.NilError(t, err)
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, content)
	assert.NilError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Do(req)
	assert.NilError(t, err)
	said, err := io.ReadAll(resp.Body)
	assert.NilError(t, err)
	assert.NilError(t, resp.Body.Close())
	assert.Assert(t, resp.StatusCode < 300, "%s %s: %s: %s", method, path, resp.Status, said)
	if into != nil {
		assert.NilError(t, json.Unmarshal(said, into))
	}
}

// loop is a program that ends at once when it is told to.
const loop = `trap "exit 0" TERM; while :; do sleep 1 & wait $!; done`

// TestChange_TakesNoLongerThanItMay measures from the moment at which the agent is
// given a new value to the moment at which, as the engine says, a process with it runs.
func TestChange_TakesNoLongerThanItMay(t *testing.T) {
	l, _ := ground(t)
	c := &changes{t: t, engine: dial(l.Socket()), agent: dial(l.HostPath("/run/dso/dso.sock"))}

	inPlace, rolling := c.inPlace(), c.rolling()
	restartRatio, rollingRatio := typical(inPlace), typical(rolling)
	in, roll := medians(inPlace), medians(rolling)
	fmt.Printf("bench-change: docker_restart_ms=%s changed_in_place_ms=%s ratio=%.2f docker_create_start_ms=%s changed_rolling_ms=%s ratio=%.2f\n",
		ms(in[0]), ms(in[1]), restartRatio, ms(roll[0]), ms(roll[1]), rollingRatio)
	assert.Check(t, restartRatio <= maxRestartRatio, "a change in place: %.2f times docker restart", restartRatio)
	assert.Check(t, rollingRatio <= maxRollingRatio, "a rolling change: %.2f times docker create and start", rollingRatio)
}

// typical returns what the second took, divided by what the first took that ran next to it,
// as a busy host is slow for both: the mean of the middle half of what all the runs say.
func typical(took [][]time.Duration) float64 {
	of := ratios(took)
	of = of[len(of)/4 : len(of)-len(of)/4]
	sum := 0.0
	for _, r := range of {
		sum += r
	}
	return sum / float64(len(of))
}

// ratios returns them in order.
func ratios(took [][]time.Duration) []float64 {
	out := make([]float64, len(took[0]))
	for i := range out {
		out[i] = float64(took[1][i]) / float64(took[0][i])
	}
	slices.Sort(out)
	return out
}

type changes struct {
	t             *testing.T
	engine, agent *socket
	number        int
}

func (c *changes) next() string {
	c.number++
	return fmt.Sprintf("value-%d", c.number)
}

// set stores a value and waits until it is rotated, as docker dso secret set does.
func (c *changes) set(name, value string) {
	c.t.Helper()
	c.agent.call(c.t, http.MethodPut, "/v1/secret", wire.SetRequest{Name: name, Value: []byte(value)}, nil)
	c.agent.call(c.t, http.MethodPost, "/v1/rotate", wire.RotateRequest{Secret: name}, nil)
}

// started returns how long after a moment the container was started.
func (c *changes) started(container string, after time.Time) time.Duration {
	c.t.Helper()
	var got struct{ State struct{ StartedAt time.Time } }
	c.engine.call(c.t, http.MethodGet, "/containers/"+container+"/json", nil, &got)
	return got.State.StartedAt.Sub(after)
}

// quiet waits until nothing is left to do.
func (c *changes) quiet() {
	c.t.Helper()
	for {
		var st wire.Status
		c.agent.call(c.t, http.MethodGet, "/v1/status", nil, &st)
		if st.Rotations.Pending == 0 && !slices.ContainsFunc(st.Containers, func(s wire.ContainerStatus) bool { return !s.UpToDate }) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *changes) create(name, secret string, labels map[string]string) (id string) {
	c.t.Helper()
	var made struct{ ID string }
	c.engine.call(c.t, http.MethodPost, "/containers/create?name="+name, map[string]any{
		"Image": "busybox:test", "Cmd": []string{"sh", "-c", loop}, "Env": []string{"V=dso://" + secret}, "Labels": labels,
		"HostConfig": map[string]any{"Runtime": "dso"},
	}, &made)
	return made.ID
}

func (c *changes) start(id string) {
	c.t.Helper()
	c.engine.call(c.t, http.MethodPost, "/containers/"+id+"/start", nil, nil)
}

// inPlace compares docker restart with a change in place, of the same container.
func (c *changes) inPlace() [][]time.Duration {
	c.set("bench/inplace", c.next())
	c.start(c.create("inplace", "bench/inplace", map[string]string{"dso.update.strategy": "restart", "dso.monitor": "0s"}))
	return c.inTurn(
		func(begun time.Time) time.Duration {
			c.engine.call(c.t, http.MethodPost, "/containers/inplace/restart", nil, nil)
			return c.started("inplace", begun)
		},
		func(begun time.Time) time.Duration {
			c.set("bench/inplace", c.next())
			return c.started("inplace", begun)
		})
}

// rolling compares the making of a container with a change by a second container.
func (c *changes) rolling() [][]time.Duration {
	c.set("bench/rolling", c.next())
	c.start(c.create("rolling", "bench/rolling", map[string]string{"dso.update.strategy": "rolling", "dso.monitor": "0s"}))
	c.set("bench/floor", "floor")
	return c.inTurn(
		func(begun time.Time) time.Duration {
			id := c.create("floor", "bench/floor", nil)
			c.start(id)
			took := c.started(id, begun)
			c.engine.call(c.t, http.MethodDelete, "/containers/"+id+"?force=1", nil, nil)
			return took
		},
		func(begun time.Time) time.Duration {
			c.set("bench/rolling", c.next())
			return c.started("rolling", begun)
		})
}

// inTurn runs two things again and again, each when the host is quiet, and returns what
// they say, in order.
func (c *changes) inTurn(one, other func(begun time.Time) time.Duration) [][]time.Duration {
	c.t.Helper()
	took := make([][]time.Duration, 2)
	for run := range 2 * changeRuns {
		c.quiet()
		which := (run + run/2) % 2 // neither is always the one after the other
		took[which] = append(took[which], []func(time.Time) time.Duration{one, other}[which](time.Now()))
	}
	return took
}
