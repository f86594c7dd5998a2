package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// labelPlace is on every container of a place, also on those that rotations make.
const labelPlace = "test.place"

var errInjected = errors.New("injected")

// world is a host in which a scenario happens, and the model of what must come of it.
type world struct {
	*agent
	places []*place
	bad    sync.Map // versions of app/db, with how they behave

	mu      sync.Mutex
	armed   []act
	dead    bool // the agent was killed
	ending  bool // or told to end
	current secret.Versions
	since   []secret.Versions // that were current since the last rest
	moved   int               // containers that a person gave another name
	harmed  int               // how often the journal was, since the last agent
}

// place is what the model knows of one place.
type place struct {
	index int
	kind  string
	base  string // the name at first, and of what docker compose up makes
	name  string
	names []string           // that it may have after the next rest
	specs []engine.Container // as users made them: what it may be like after the next rest

	last secret.Versions // at the last rest
	// gone: a person removed the last container. maybeGone: in the middle of a
	// rotation, which may have brought it back.
	gone, maybeGone bool
	maybeStopped    bool // by a person
	// meddled: what a person or an outage did to a container may be taken for the
	// new version's fault. heldBack: it was.
	meddled, heldBack bool
	// outside: somebody else than a rotation started a container, with whatever
	// was current. sick: that was a version that does not work.
	outside, sick bool
	lost          bool // the journal, in the middle of a rotation
	// forgotten: every generation of the journal was lost in the middle of a rotation.
	// What is restarted in place carries no label that tells of it.
	forgotten bool
	asked     bool // a person asked for a rotation
	upped     bool // in the middle of a rotation, docker compose up gave the place a container
}

func newWorld(t *testing.T, places []string) *world {
	h := hosttest.New(t)
	w := &world{current: secret.Versions{}}
	h.Behave = func(c engine.Container, got secret.Versions) enginetest.Behaviour {
		b := enginetest.Behaviour{HealthyAfter: time.Second}
		i, err := strconv.Atoi(c.Label(labelPlace))
		if err != nil || w.works(w.places[i], got) {
			return b
		}
		// What is restarted in place is not watched after its gate.
		if how, _ := w.bad.Load(got[id("app/db")]); how == "later" && kinds[w.places[i].kind] == rotation.Rolling {
			b.UnhealthyAfter = 1500 * time.Millisecond
			return b
		}
		return enginetest.Behaviour{UnhealthyAfter: 500 * time.Millisecond, ExitCode: 1}
	}
	w.current[id("app/db")] = h.Secrets.Set("app/db", "value")
	w.current[id("app/api")] = h.Secrets.Set("app/api", "value")
	for i, kind := range places {
		p := &place{index: i, kind: kind, base: kind, name: kind, last: w.current}
		w.places = append(w.places, p)
		h.Run(t, p.name, w.options(p)...)
	}
	w.agent = newAgent(t, h)
	w.begin()
	time.Sleep(10 * time.Second)
	w.rest()
	return w
}

func (w *world) options(p *place) []hosttest.Option {
	return append(optionsOf(p.kind), hosttest.Label(labelPlace, strconv.Itoa(p.index)))
}

// works reports whether containers of the place work with these versions. Nothing
// tells whether new files do.
func (w *world) works(p *place, vs secret.Versions) bool {
	_, bad := w.bad.Load(vs[id("app/db")])
	return !bad || p.kind == "files"
}

// begin lets the agent run.
func (w *world) begin() {
	w.Host.Machine.Fault = w.fault
	w.launch()
}

// boot starts the next agent, if there is none.
func (w *world) boot(t *testing.T) {
	w.mu.Lock()
	down := w.dead || w.ending
	w.mu.Unlock()
	if !down {
		return
	}
	w.stop()
	w.Boot(t)
	w.agent = newAgent(t, w.Host)
	w.mu.Lock()
	w.dead, w.ending, w.harmed = false, false, 0
	w.mu.Unlock()
	w.begin()
}

// fault does what was armed for the point. The goroutine of an agent that is dead
// ends there.
func (w *world) fault(point string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	for i := 0; i < len(w.armed); {
		a := w.armed[i]
		if a.At != point || w.dead {
			i++
			continue
		}
		w.armed = slices.Delete(w.armed, i, i+1)
		if a.Do == "fault" {
			err = errInjected
			continue
		}
		w.do(a)
	}
	if w.dead {
		runtime.Goexit()
	}
	return err
}

// act does what happens at once, or arms it.
func (w *world) act(t *testing.T, a act) {
	switch a.Do {
	case "wait":
		time.Sleep(a.For)
		return
	case "boot":
		w.boot(t)
		return
	}
	w.mu.Lock()
	if a.At != "" {
		w.armed = append(w.armed, a)
	} else {
		w.do(a)
	}
	w.mu.Unlock()
	synctest.Wait() // what follows at once has happened
}

// do is called with the lock held.
func (w *world) do(a act) {
	p := w.places[a.Place]
	switch a.Do {
	case "set":
		w.set("app/db", "")
	case "set bad":
		w.set("app/db", "at once")
	case "set bad later":
		w.set("app/db", "later")
	case "set api":
		w.set("app/api", "")
	case "die":
		w.dead = true
		w.Die()
		w.cancel()
	case "sigterm":
		w.ending = true
		w.cancel()
	case "lose journal", "damage journal", "older journal":
		w.harmJournal(a.Do)
	case "engine restarts":
		for _, p := range w.places {
			w.startedByOthers(p, w.of(p)...)
		}
		w.Host.Engine.RestartEngine()
	case "engine down":
		w.Host.Engine.SetDown(true)
		time.AfterFunc(a.For, func() { w.Host.Engine.SetDown(false) })
	case "fail", "fail after":
		w.failCall(a)
	case "rotate":
		if !w.dead && !w.ending {
			p.asked = true
			_, _ = w.Sync(context.Background(), reconcile.Target{Container: p.name, Force: true, NoWait: true, Cause: "asked"})
		}
	default:
		if w.Host.Engine.Ping(context.Background()) == nil {
			w.person(p, a)
		}
	}
}

func (w *world) set(path, bad string) {
	v := w.Secrets.Set(path, "value")
	if bad != "" {
		w.bad.Store(v, bad)
	}
	next := secret.Versions{id("app/db"): w.current[id("app/db")], id("app/api"): w.current[id("app/api")]}
	next[id(path)] = v
	w.current = next
	w.since = append(w.since, next)
	for _, p := range w.places {
		p.heldBack = false
	}
	w.Watch.Push(secret.DefaultProvider)
}

// failCall makes a call of the engine fail once. A start that is refused is taken
// for the new version's fault.
func (w *world) failCall(a act) {
	if a.Call == "Start" || a.Call == "Restart" {
		for _, p := range w.places {
			p.meddled = true
		}
	}
	if a.Do == "fail" {
		w.Host.Engine.Fail(a.Call, errInjected)
	} else {
		w.Host.Engine.FailAfter(a.Call, errInjected)
	}
}

// harmJournal is for an agent that does not run: a running one has its journal in
// its memory.
func (w *world) harmJournal(how string) {
	if !w.dead && !w.ending {
		return
	}
	for _, p := range w.places {
		p.lost = p.lost || w.rotating(p)
	}
	path := w.JournalPath()
	if w.harmed++; how == "lose journal" || w.harmed > 1 { // with the generation before
		for _, p := range w.places {
			p.forgotten = p.forgotten || p.lost
		}
	}
	switch how {
	case "lose journal":
		_ = os.Remove(path)
		_ = os.Remove(path + ".last")
	case "damage journal":
		_ = os.WriteFile(path, []byte(`{"half":`), 0o600)
	case "older journal":
		_ = os.Rename(path+".last", path)
	}
}

// of returns the containers of a place.
func (w *world) of(p *place) []engine.Container {
	return slices.DeleteFunc(w.Host.Engine.All(), func(c engine.Container) bool { return c.Label(labelPlace) != strconv.Itoa(p.index) })
}

func (w *world) rotating(p *place) bool {
	return p.lost || len(w.of(p)) > 1 || slices.ContainsFunc(w.Journal.Pending(), func(e rotation.Entry) bool {
		return e.Original.Label(labelPlace) == strconv.Itoa(p.index)
	})
}

// due reports whether a rotation runs or may begin at any moment.
func (w *world) due(p *place) bool {
	return p.asked || w.rotating(p) || slices.ContainsFunc(w.of(p), func(c engine.Container) bool {
		if w.Store == nil {
			return true
		}
		got, _, _ := w.Store.Delivered(c.ID)
		return !got.Equal(w.current)
	})
}

// startedByOthers says that somebody starts the containers, and not a rotation: one
// that is not held to its versions gets the current ones.
func (w *world) startedByOthers(p *place, cs ...engine.Container) {
	for _, c := range cs {
		if w.Store != nil && !w.ending {
			if _, pinned := w.Store.Pinned(c.ID); pinned || w.held(c) {
				continue
			}
		}
		p.outside = true
	}
}

// held reports whether the container is in the middle of a rotation, which holds it
// to its versions from its first step to its last.
func (w *world) held(c engine.Container) bool {
	return slices.ContainsFunc(w.Journal.Pending(), func(e rotation.Entry) bool {
		switch e.Step {
		case rotation.StepHold, rotation.StepRelease, rotation.StepSettle:
			return false
		case rotation.StepAssign:
			return e.Strategy == rotation.Rolling && e.Concerns(c.ID)
		}
		return (e.Phase == rotation.Forward || e.Phase == rotation.Back) && e.Concerns(c.ID)
	})
}

// person does what people do with docker. Faults of the engine are not for them.
func (w *world) person(p *place, a act) {
	eng, ctx := w.Host.Engine, context.Background()
	again := func(f func() error) {
		if errors.Is(f(), errInjected) {
			_ = f()
		}
	}
	all := w.of(p)
	if a.Do == "up" {
		w.up(p, all, again)
		return
	}
	if len(all) == 0 {
		return
	}
	i := max(0, slices.IndexFunc(all, func(c engine.Container) bool { return (c.Name == p.name) != a.Twin }))
	c, rotating := all[i], w.rotating(p)
	p.meddled = p.meddled || w.due(p) && a.Do != "rename"
	switch a.Do {
	case "remove":
		due := w.due(p)
		again(func() error { return eng.Remove(ctx, c.ID) })
		if len(all) == 1 {
			p.gone, p.maybeGone = !due, due
		}
	case "stop":
		again(func() error { return eng.Stop(ctx, c.ID) })
		p.maybeStopped = true
	case "start", "restart":
		w.startedByOthers(p, c)
		if a.Do == "start" && c.Running() {
			return
		}
		again(func() error { return eng.Restart(ctx, c.ID) })
		p.maybeStopped = p.maybeStopped && rotating
	case "kill":
		p.outside = true // the engine starts it again after a pause: by then it may be free
		eng.Kill(c.ID)
	case "rename":
		if p.upped { // the name would be free again: two containers, and rightly so
			return
		}
		w.moved++
		name := fmt.Sprintf("%s-moved-%d", p.base, w.moved)
		again(func() error { return eng.Rename(ctx, c.ID, name) })
		p.names = append(p.names, name) // a rotation that is being planned knows the old one
		if !rotating {
			p.name = name
		}
	}
}

// up is docker compose up --force-recreate. It does not know a container that a
// person has given another name.
func (w *world) up(p *place, all []engine.Container, again func(func() error)) {
	eng, ctx := w.Host.Engine, context.Background()
	if slices.ContainsFunc(all, func(c engine.Container) bool { return strings.Contains(c.Name, "-moved-") }) {
		return
	}
	p.meddled, p.upped = p.meddled || w.due(p), p.upped || w.due(p)
	for _, c := range all {
		if c.Name == p.base {
			again(func() error { return eng.Remove(ctx, c.ID) })
		}
	}
	again(func() error {
		_, err := eng.Create(ctx, p.base, hosttest.Spec(w.options(p)...))
		return err
	})
	c, err := eng.Inspect(ctx, p.base)
	if err != nil {
		c, err = eng.Inspect(ctx, p.base)
	}
	if err != nil {
		return
	}
	w.startedByOthers(p, c)
	again(func() error { return eng.Start(ctx, c.ID) })
	p.specs = append(p.specs, c)
	p.name, p.names = p.base, append(p.names, p.base)
	p.gone, p.maybeGone, p.maybeStopped = false, false, false
}

// locks returns the lock files.
func (w *world) lockFiles() []string {
	files, _ := filepath.Glob(filepath.Join(w.Dir, "locks", "*.lock"))
	return files
}
