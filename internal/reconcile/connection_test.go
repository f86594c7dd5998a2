package reconcile_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// recorder notes in which order an agent does things on its connections.
type recorder struct {
	*enginetest.Engine
	mu    sync.Mutex
	said  []string
	lists int           // how often everything was listed
	stuck chan struct{} // when set, listing everything waits for it
	// extra are events besides the engine's own.
	extra chan engine.Event
}

func (r *recorder) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.said) == 0 || r.said[len(r.said)-1] != what {
		r.said = append(r.said, what)
	}
}

// all is what was noted since the last call.
func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.said, " ")
	r.said = nil
	return out
}

func (r *recorder) Events(ctx context.Context) (<-chan engine.Event, <-chan error) {
	r.say("subscribe")
	own, failed := r.Engine.Events(ctx)
	out := make(chan engine.Event)
	go func() {
		for {
			var ev engine.Event
			select {
			case ev = <-own:
			case ev = <-r.extra:
			case <-ctx.Done():
				return
			}
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, failed
}

func (r *recorder) List(ctx context.Context, labels ...string) ([]string, error) {
	r.say("list")
	r.mu.Lock()
	stuck := r.stuck
	if len(labels) == 0 {
		r.lists++
	} else {
		stuck = nil
	}
	r.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return r.Engine.List(ctx, labels...)
}

func (r *recorder) listed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists
}

// record makes the agent's controller note what it does.
func (a *agent) record() *recorder {
	r := &recorder{Engine: a.Host.Engine, extra: make(chan engine.Event)}
	a.Controller.Engine = r
	a.Claim = func(context.Context) error { r.say("claim"); return nil }
	a.Lost = func() { r.say("lost") }
	return r
}

func TestRun_EveryConnectionIsSubscribedThenClaimedThenListed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		r := a.record()
		a.run(t)
		settle()
		assert.Equal(t, r.all(), "subscribe claim list")
		for range 2 {
			a.Host.Engine.RestartEngine()
			settle()
			assert.Equal(t, r.all(), "lost subscribe claim list")
		}
		a.stop()
		assert.Equal(t, r.all(), "", "what runs when the agent stops may still be finished")
		a.stop = func() {}
	})
}

// A recovery may take minutes, and the engine may be another one meanwhile.
func TestRun_AnEngineThatRestartsDuringTheRecoveryIsClaimedAgain(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.Behave = func(engine.Container, secret.Versions) enginetest.Behaviour {
			return enginetest.Behaviour{HealthyAfter: 20 * time.Second}
		}
		a.run(t)
		a.set("app/db", "two")
		time.Sleep(500 * time.Millisecond)
		a = a.again(t)
		assert.Equal(t, len(a.Journal.Pending()), 1)
		r := a.record()
		restarted := make(chan struct{})
		time.AfterFunc(5*time.Second, func() {
			a.Host.Engine.SetDown(true)
			time.Sleep(time.Second)
			a.Host.Engine.SetDown(false)
			close(restarted)
		})
		a.run(t)
		select {
		case <-restarted:
		default:
			t.Fatal("the recovery was over before", a.log.String())
		}
		assert.Assert(t, strings.HasPrefix(r.all(), "subscribe claim list lost subscribe claim list"))
		time.Sleep(5 * time.Minute)
		assert.Equal(t, len(a.Journal.Pending()), 0)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
	})
}

func TestRun_NothingIsDoneInAnEngineThatIsNotClaimed(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.Secrets.Set("app/db", "two")
		r := a.record()
		refused := errors.New("it is another agent's")
		var mu sync.Mutex
		a.Claim = func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return refused
		}
		before := a.Host.Engine.Calls()
		ready := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.Controller.Run(ctx, a.changed, func() { close(ready) })
		}()
		settle()
		assert.Equal(t, r.all(), "subscribe", "it asks nothing, and a connection that was not claimed is not lost")
		assert.Equal(t, len(a.since(before)), 0)
		contains(t, a.log.String(), "claim engine: it is another agent's")

		mu.Lock()
		refused = nil
		mu.Unlock()
		<-ready
		time.Sleep(time.Minute)
		assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
		cancel()
		<-ended
	})
}

// metric is what /metrics says of one of them.
func (a *agent) metric(t *testing.T, name string) int {
	t.Helper()
	w := httptest.NewRecorder()
	a.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	_, rest, found := strings.Cut(w.Body.String(), "\n"+name+" ")
	line, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.Atoi(line)
	assert.Assert(t, found && err == nil, "%s is not in:\n%s", name, w.Body)
	return value
}

// burst makes the agent's loop stand still, sends it that many events and returns
// when they are read. The returned function lets the loop go on.
func (r *recorder) burst(a *agent, events int, kind engine.Event) (goOn func()) {
	stuck := make(chan struct{})
	r.mu.Lock()
	r.stuck = stuck
	r.mu.Unlock()
	a.changed <- struct{}{}
	settle()
	for range events {
		r.extra <- kind
	}
	settle()
	r.mu.Lock()
	r.stuck = nil
	r.mu.Unlock()
	return func() { close(stuck) }
}

func TestRun_ABurstThatTheQueueCannotHoldLeadsToOneComparisonOfEverything(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Interval = 24 * time.Hour
		r := a.record()
		a.run(t)
		settle()
		goOn := r.burst(a, reconcile.QueueSize+10, engine.Event{Action: "exec_start"})
		assert.Equal(t, a.metric(t, "dso_events_dropped_total"), 10)
		assert.Equal(t, a.metric(t, "dso_event_queue_depth"), reconcile.QueueSize)
		before := r.listed()
		goOn()
		settle()
		assert.Equal(t, r.listed()-before, 1)
		assert.Equal(t, a.metric(t, "dso_event_queue_depth"), 0)
		assert.Equal(t, a.metric(t, "dso_events_dropped_total"), 10)
	})
}

func TestRun_ABurstThatTheQueueHoldsIsHandledAndNothingElse(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Interval = 24 * time.Hour
		r := a.record()
		a.run(t)
		settle()
		goOn := r.burst(a, reconcile.QueueSize, engine.Event{Action: "exec_start"})
		assert.Equal(t, a.metric(t, "dso_events_dropped_total"), 0)
		before := r.listed()
		goOn()
		settle()
		assert.Equal(t, r.listed(), before)
		assert.Equal(t, a.metric(t, "dso_event_queue_depth"), 0)
	})
}

// Whatever the dropped events would have told is found out all the same.
func TestRun_ADroppedEventCostsNothing(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Interval = 24 * time.Hour
		a.Secrets.Set("app/db", "one")
		gone := a.up(t, "gone", usesDB)
		r := a.record()
		a.run(t)
		settle()
		goOn := r.burst(a, reconcile.QueueSize, engine.Event{Action: "exec_start"})
		// From here on, every event finds the queue full.
		assert.NilError(t, a.Host.Engine.Remove(t.Context(), gone.ID))
		a.up(t, "came", usesDB)
		a.Secrets.Set("app/db", "two") // and nobody tells that it changed
		behind := a.created(t)
		settle()
		assert.Assert(t, a.metric(t, "dso_events_dropped_total") > 3)
		goOn()
		time.Sleep(5 * time.Minute)
		assert.Equal(t, a.has(t, "came", "app/db"), secret.Version("2"))
		known, err := a.Store.Known()
		assert.NilError(t, err)
		assert.Assert(t, !slices.Contains(known, gone.ID))
		assert.Equal(t, len(a.aliases(t, behind)), 0)
	})
}
