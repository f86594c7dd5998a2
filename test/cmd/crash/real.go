package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/test/lab"
)

// ground is a project that rotations happen in.
type ground struct {
	compose string
	service map[rotation.Strategy]string // the container that is rotated with each strategy
	places  []string
}

// often is for what the engine has to see by itself: a process that goes on and is not
// healthy any more.
const often = `
    healthcheck: {interval: 1s, timeout: 20s, retries: 2}`

// starting are the strategies that start containers, and files that change in place.
var starting = ground{`
services:
  web:
    image: ` + lab.Answerer + lab.CheckedSeldom + `
    ports: ["8080:8080"]
    restart: always
    environment: {APP_SECRET: "dso://rolling", APP_EXIT_IF: bad}
    labels: {dso.update.strategy: rolling, dso.monitor: 100ms}
  api:
    image: ` + lab.Answerer + lab.CheckedSeldom + `
    restart: always
    environment: {APP_SECRET: "dso://restart", APP_EXIT_IF: bad}
    labels: {dso.update.strategy: restart, dso.monitor: 100ms}
  data:
    image: ` + lab.Datakeeper + lab.CheckedSeldom + `
    restart: always
    network_mode: service:api
    volumes: ["data:/data"]
  files:
    image: ` + lab.Answerer + lab.CheckedSeldom + `
    restart: always
    environment: {APP_SECRET_FILE: "dsofile://none#answer", APP_RELOAD: "1"}
    labels: {dso.update.strategy: none}
volumes: {data: }
`, map[rotation.Strategy]string{
	rotation.Rolling: "crash-web-1", rotation.Restart: "crash-api-1", rotation.None: "crash-files-1",
}, []string{"crash-web-1", "crash-api-1", "crash-data-1", "crash-files-1"}}

// reloading are those under which the process goes on.
var reloading = ground{`
services:
  sig:
    image: ` + lab.Answerer + often + `
    restart: always
    environment: {APP_SECRET_FILE: "dsofile://signal", APP_UNHEALTHY_IF: bad}
    labels: {dso.update.strategy: signal, dso.monitor: 100ms}
  cmd:
    image: ` + lab.Answerer + lab.CheckedSeldom + `
    restart: always
    environment: {APP_SECRET_FILE: "dsofile://exec", APP_EXIT_IF: bad}
    labels: {dso.update.strategy: exec, dso.update.exec: '["/answerer", "reload"]', dso.monitor: 100ms}
`, map[rotation.Strategy]string{
	rotation.Signal: "crash-sig-1", rotation.Exec: "crash-cmd-1",
}, []string{"crash-sig-1", "crash-cmd-1"}}

// real is a ground on a real engine.
type real struct {
	*matrix
	ground
	lab    *lab.Lab
	dir    string                       // of the project
	number int                          // of the last value that was set
	canary string                       // in every value, and nowhere else
	asked  time.Time                    // when there was a next value
	serves map[rotation.Strategy]string // the marker that each service answers
	starts int                          // of the data's container, as its volume knows them
	load   *lab.Load

	// standing is what the running agent was started with, when the next attempt takes
	// it over; empty: each attempt starts its own.
	standing string
}

func (r *real) agentLog(from int) string {
	text, _ := os.ReadFile(r.lab.AgentLog())
	return string(text[min(from, len(text)):])
}

// next is the next value: its number is the version that the load knows.
func (r *real) next() (marker string) {
	r.number++
	r.asked = time.Now()
	return fmt.Sprintf("v%d %s", r.number, r.canary)
}

func (r *real) bringUp(ctx context.Context) error {
	if err := r.lab.StartAgent(ctx); err != nil {
		return err
	}
	if out, err := r.lab.DSO(ctx, "init"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var err error
	if r.dir, err = r.lab.Project("crash", r.compose); err != nil {
		return err
	}
	for s := range r.service {
		r.serves[s] = "v0"
		if err := r.set(ctx, s, "v0", false); err != nil {
			return err
		}
	}
	out, err := r.lab.DSOIn(ctx, r.dir, "", "up", "-d", "--wait")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return r.lab.KillAgent()
}

// set stores a value; a bad one makes the strategy's service fail.
func (r *real) set(ctx context.Context, s rotation.Strategy, marker string, bad bool) error {
	value := marker
	switch {
	case s == rotation.None && bad:
		value = fmt.Sprintf(`{"no answer": %q}`, marker)
	case s == rotation.None:
		value = fmt.Sprintf(`{"answer": %q}`, marker)
	case bad:
		value = marker + " bad"
	}
	_, err := r.lab.DSOIn(ctx, "/", value, "secret", "set", "crash/"+string(s), "--no-wait")
	return err
}

// agentDeaths goes through the steps from the last to the first: the agent that finishes a
// rotation is the one that dies in the next, and does not pass its own point before.
func (r *real) agentDeaths(ctx context.Context, points []rotation.Point) error {
	points = slices.DeleteFunc(slices.Clone(points), func(p rotation.Point) bool { return !undisturbed(p) || !r.onReal(p) })
	slices.Reverse(points)
	for i, p := range points {
		next := ""
		if i+1 < len(points) {
			next = points[i+1].String()
		}
		ok, err := r.attempt(ctx, p.String(), func() error { return r.die(ctx, p, next) })
		if err != nil {
			return err
		}
		r.survived(p.String(), ok)
	}
	return nil
}

// underLoad lets the agent die while requests run.
func (r *real) underLoad(ctx context.Context, points []rotation.Point) error {
	var err error
	if r.load, err = r.lab.StartLoad(ctx, "http://"+r.lab.Address()+":8080/", "-rate", "50"); err != nil {
		return err
	}
	if err := r.agentDeaths(ctx, points); err != nil {
		return err
	}
	result, err := r.load.Stop()
	if err != nil {
		return err
	}
	r.requests, r.failed, r.wrong = result.Requests, result.Failed, result.WrongVersion
	r.say("%d requests while agents died: %d failed, %d with a wrong version, longest gap %.0f ms", result.Requests, result.Failed, result.WrongVersion, result.GapMS)
	for _, f := range result.Errors {
		r.say("failed after %.0f ms of load: %s", f.StartedAt, f.Error)
	}
	return nil
}

// undisturbed reports whether a rotation comes to the point without a person.
func undisturbed(p rotation.Point) bool {
	return p.Phase == rotation.Forward || p.Phase == rotation.Back
}

// onReal reports whether an agent dies there on the real engine too: after each effect, and
// at the end of a rotation, which has none.
func (m *matrix) onReal(p rotation.Point) bool {
	return p.Moment == rotation.After || p.Step == "end" || p.Moment == rotation.Before && m.thorough
}

// errNobodyDied ends an attempt whose moment did not come.
var errNobodyDied = errors.New("nobody died")

// attempt runs one death and reports whether it was survived. No agent runs before and after
// it, but for one that the next attempt takes over. The error is about the ground itself.
func (r *real) attempt(ctx context.Context, what string, death func() error) (survived bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	from, began := len(r.agentLog(0)), time.Now()
	err = death()
	if found := r.lab.OnDisk(r.canary, began); err == nil && len(found) > 0 {
		err = fmt.Errorf("a value is on the disk: %s", strings.Join(found, "; "))
	}
	switch {
	case errors.Is(err, errNobodyDied):
		survived = true
		r.say("not tried %s: the rotation was over before", what)
	case err != nil:
		r.say("FAILED %s: %v\n%s", what, err, r.agentLog(from))
	default:
		survived = true
		r.say("survived %s", what)
	}
	if survived && r.standing != "" {
		return true, nil
	}
	r.standing = ""
	if r.lab.AgentRuns() {
		return survived, r.lab.KillAgent()
	}
	return survived, nil
}

// die lets an agent die at the point, and another one, which will die at the next, finish
// what it began.
func (r *real) die(ctx context.Context, p rotation.Point, next string) error {
	if err := r.dieAt(ctx, p); err != nil {
		return err
	}
	if err := r.startWith(ctx, next); err != nil {
		return err
	}
	r.standing = next
	return r.verify(ctx, p)
}

// dieAt starts a rotation by an agent that dies at the point.
func (r *real) dieAt(ctx context.Context, p rotation.Point) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.startWith(ctx, p.String()); err != nil {
		return err
	}
	marker := r.next()
	if p.Phase == rotation.Forward {
		r.serves[p.Strategy] = marker
	}
	setErr := r.set(ctx, p.Strategy, marker, p.Phase == rotation.Back) // the agent may die before it answers
	if err := r.lab.AwaitAgentEnd(ctx); err != nil {
		return errors.Join(fmt.Errorf("%s is never passed: %w", p, err), setErr)
	}
	return nil
}

// startWith starts an agent with failpoints, unless one stands by.
func (r *real) startWith(ctx context.Context, failpoints string) error {
	if r.lab.AgentRuns() && r.standing == failpoints {
		return nil
	}
	ready, err := r.lab.LaunchAgent(ctx, []string{"DSO_FAILPOINT=" + failpoints})
	if err != nil {
		return err
	}
	return ready(ctx)
}

// settled is when the engine's own restarts must be over too: it waits longer each time
// for a container that crashes.
const settled = time.Minute

// verify checks the end of the rotation that was cut off at p.
func (r *real) verify(ctx context.Context, p rotation.Point) error {
	wrong, err := r.lab.CheckWithin(ctx, settled, r.places...)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	if err := r.verifyReport(ctx, p); err != nil {
		return err
	}
	for s, marker := range r.serves {
		if got, err := r.answer(ctx, s); err != nil || got != marker {
			return fmt.Errorf("%s answers %q, not %q: %w", r.service[s], got, marker, err)
		}
	}
	if r.load != nil && p.Strategy == rotation.Rolling {
		version, _, _ := strings.Cut(r.serves[rotation.Rolling], " ")
		if err := r.load.Floor(version); err != nil {
			return err
		}
	}
	if !slices.Contains(r.places, "crash-data-1") {
		return nil
	}
	return r.verifyData()
}

func (r *real) answer(ctx context.Context, s rotation.Strategy) (string, error) {
	if s != rotation.Rolling {
		return r.lab.Exec(ctx, r.service[s], "/answerer", "get", "http://127.0.0.1:8080/")
	}
	out, err := r.lab.ClientCommand(ctx, "answerer", "get", "http://"+r.lab.Address()+":8080/").CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// verifyReport compares what docker dso says with what the point leads to.
func (r *real) verifyReport(ctx context.Context, p rotation.Point) error {
	rows, err := r.lab.Rotations(ctx)
	if err != nil {
		return err
	}
	var last wire.Rotation
	for _, row := range rows {
		if row.Container == r.service[p.Strategy] && row.Started.After(r.asked) && row.Started.After(last.Started) {
			last = row
		}
	}
	want := rotation.OutcomeRotated
	if p.Phase == rotation.Back {
		want = rotation.OutcomeRolledBack
	}
	if last.Outcome != string(want) {
		return fmt.Errorf("the rotation is reported as %q, not %q: %s", last.Outcome, want, last.Error)
	}
	st, err := r.lab.Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range st.Containers {
		if c.Name == r.service[p.Strategy] && (c.Pinned != (p.Phase == rotation.Back) || c.UpToDate == (p.Phase == rotation.Back)) {
			return fmt.Errorf("%s is reported with pinned=%t, up_to_date=%t", c.Name, c.Pinned, c.UpToDate)
		}
	}
	return nil
}

// verifyData: the volume knows every start of its container, and none is lost.
func (r *real) verifyData() error {
	content, err := os.ReadFile(filepath.Join(r.lab.Engine.Dir(), "data/volumes/crash_data/_data/journal"))
	if err != nil {
		return err
	}
	starts := strings.Count(string(content), "\n")
	if starts < r.starts {
		return fmt.Errorf("the data knew %d starts and knows %d", r.starts, starts)
	}
	r.starts = starts
	return nil
}
