package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/test/lab"
)

// meddling is how a person brings a rotation into a phase, and what must come of it.
type meddling struct {
	strategy rotation.Strategy
	phase    rotation.Phase
	bad      bool   // the new version does not work
	before   string // failpoints that lead there: the agent stops, or dies, for the person
	person   func(ctx context.Context, r *real) error
	outcome  rotation.Outcome
	old      bool // the old version has the place in the end
	theirs   bool // the place is the person's
}

func meddlings() []meddling {
	const atPin = ",rolling/back/pin/after=stop"
	removeWeb := func(ctx context.Context, r *real) error { return r.docker(ctx, "rm", "-f", "crash-web-1") }
	takeWeb := func(ctx context.Context, r *real) error {
		return errors.Join(r.docker(ctx, "rename", "crash-web-1", "crash-elsewhere"), r.stranger(ctx, rotation.Rolling))
	}
	removeSolo := func(ctx context.Context, r *real) error { return r.docker(ctx, "rm", "-f", "crash-api-1") }
	takeSolo := func(ctx context.Context, r *real) error {
		return errors.Join(removeSolo(ctx, r), r.stranger(ctx, rotation.Restart))
	}
	return []meddling{
		{strategy: rotation.Rolling, phase: rotation.Adopt, before: "rolling/forward/name-original/before=fail" + atPin, person: removeWeb, outcome: rotation.OutcomeAdopted},
		{strategy: rotation.Rolling, phase: rotation.Recreate, bad: true, before: atPin[1:], person: removeWeb, outcome: rotation.OutcomeRecreated, old: true},
		{strategy: rotation.Rolling, phase: rotation.Yield, before: "rolling/forward/name-replacement/after=fail" + atPin, person: takeWeb, outcome: rotation.OutcomeYielded, theirs: true},
		{strategy: rotation.Restart, phase: rotation.Recreate, before: "restart/forward/assign/after=kill", person: removeSolo, outcome: rotation.OutcomeRecreated},
		{strategy: rotation.Restart, phase: rotation.Yield, before: "restart/forward/assign/after=kill", person: takeSolo, outcome: rotation.OutcomeYielded, theirs: true},
	}
}

// persons lets an agent die at every step of the phases that only a person leads
// to. Requests cannot be answered while the original is gone.
func (r *real) persons(ctx context.Context, points []rotation.Point) error {
	for _, m := range meddlings() {
		for _, p := range points {
			if p.Strategy != m.strategy || p.Phase != m.phase || p.Moment == rotation.Before || !r.onReal(p) {
				continue
			}
			ok, err := r.attempt(ctx, p.String(), func() error { return r.meddle(ctx, m, p) })
			r.survived(p.String(), ok)
			if err := errors.Join(err, r.restore(ctx, m)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *real) meddle(ctx context.Context, m meddling, p rotation.Point) error {
	begun := time.Now()
	marker, err := r.meddled(ctx, m, p)
	if err != nil {
		return err
	}
	if err := r.lab.StartAgent(ctx); err != nil {
		return err
	}
	switch {
	case m.theirs:
		marker = theirs
	case m.old:
		marker = r.serves[m.strategy]
	default:
		r.serves[m.strategy] = marker
	}
	wrong, err := r.lab.CheckWithin(ctx, time.Minute, r.places...)
	if err != nil || len(wrong) > 0 {
		return errors.Join(err, errors.New(strings.Join(wrong, "; ")))
	}
	rows, err := r.lab.Rotations(ctx)
	if err != nil {
		return err
	}
	var outcomes []string
	for _, row := range rows {
		if row.Container == r.service[m.strategy] && row.Started.After(begun) {
			outcomes = append(outcomes, row.Outcome)
		}
	}
	if !slices.Contains(outcomes, string(m.outcome)) {
		return fmt.Errorf("the rotations end %v, none %s", outcomes, m.outcome)
	}
	if got, err := r.answer(ctx, m.strategy); err != nil || got != marker {
		return fmt.Errorf("%s answers %q, not %q: %w", r.service[m.strategy], got, marker, err)
	}
	return nil
}

// meddled brings a rotation to p, at which the agent dies.
func (r *real) meddled(ctx context.Context, m meddling, p rotation.Point) (marker string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	points := m.before
	stops := strings.HasSuffix(m.before, "=stop")
	if stops {
		points += "," + p.String()
	}
	if err := r.launch(ctx, points); err != nil {
		return "", err
	}
	marker = r.next()
	setErr := r.set(ctx, m.strategy, marker, m.bad) // the agent may die before it answers
	if stops {
		if err := r.awaitStopped(ctx); err != nil {
			return "", errors.Join(err, setErr)
		}
		return marker, errors.Join(m.person(ctx, r), syscall.Kill(r.lab.AgentPID(), syscall.SIGCONT), r.lab.AwaitAgentEnd(ctx))
	}
	if err := r.lab.AwaitAgentEnd(ctx); err != nil {
		return "", errors.Join(err, setErr)
	}
	return marker, errors.Join(m.person(ctx, r), r.launch(ctx, p.String()), r.lab.AwaitAgentEnd(ctx))
}

// launch starts an agent with failpoints, which may not live to be ready.
func (r *real) launch(ctx context.Context, points string) error {
	ready, err := r.lab.LaunchAgent(ctx, []string{"DSO_FAILPOINT=" + points})
	if err != nil {
		return err
	}
	_ = ready(ctx)
	return nil
}

// awaitStopped waits until the agent has stopped itself.
func (r *real) awaitStopped(ctx context.Context) error {
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.lab.AgentPID()))
		if err != nil {
			return fmt.Errorf("the agent has not stopped for the person: %w", err)
		}
		if _, after, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(after, "T") {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("the agent has not stopped for the person")
		}
	}
}

// theirs is what a person's own container answers.
const theirs = "theirs"

// stranger makes a container of a person's own in the place of a service.
func (r *real) stranger(ctx context.Context, s rotation.Strategy) error {
	return r.docker(ctx, "run", "-d", "--name", r.service[s], "--network", "crash_default", "--restart", "always", "-e", "APP_SECRET="+theirs, lab.Answerer)
}

// restore makes the services what they were, after a person has taken a place, or
// has taken the network away that the data's container lives in.
func (r *real) restore(ctx context.Context, m meddling) error {
	if !m.theirs && m.strategy == rotation.Rolling {
		return nil
	}
	if err := r.docker(ctx, "rm", "-f", r.service[m.strategy], "crash-data-1"); err != nil {
		return err
	}
	if err := r.lab.StartAgent(ctx); err != nil {
		return err
	}
	out, err := r.lab.DSOIn(ctx, r.dir, "", "up", "-d", "--wait")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if r.serves[m.strategy], err = r.answer(ctx, m.strategy); err != nil {
		return err
	}
	return r.lab.KillAgent()
}

func (r *real) docker(ctx context.Context, args ...string) error {
	_, err := r.lab.Docker(ctx, args...)
	return err
}
