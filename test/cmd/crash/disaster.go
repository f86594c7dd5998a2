package main

import (
	"context"
	"errors"
	"slices"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// struck are the points at which more dies than the agent: at least one where
// nothing is decided, one in the middle of the change-over, one past the point of
// no return and one on the way back, of each strategy that has it.
func struck(p rotation.Point) bool { return p.Moment == rotation.After && struckStep(p.Step) }

func struckStep(s rotation.Step) bool {
	switch s {
	case rotation.StepStart, rotation.StepCutOver, rotation.StepNameOriginal, rotation.StepStop, rotation.StepRemove,
		rotation.StepRevive, rotation.StepRemoveReplacement,
		rotation.StepRestart, rotation.StepRestartOld, rotation.StepRefresh, rotation.StepRefreshOld,
		rotation.StepSignal, rotation.StepSignalOld, rotation.StepExec, rotation.StepExecOld:
		return true
	}
	return false
}

// chosen are those of the points at which more dies, without a person's help.
func chosen(points []rotation.Point) []rotation.Point {
	return slices.DeleteFunc(slices.Clone(points), func(p rotation.Point) bool { return !undisturbed(p) || !struck(p) })
}

// fault is what happens while no agent runs.
type fault struct {
	what   string
	strike func(context.Context) error // nil: nothing more
}

// faultsAt are the faults of a number of them that happen at a place: they take turns.
func (m *matrix) faultsAt(place int, all []fault) []fault {
	if m.thorough {
		return all
	}
	return all[place%len(all) : place%len(all)+1]
}

func (r *real) disasters(ctx context.Context, points []rotation.Point) error {
	for i, p := range chosen(points) {
		for _, f := range r.faultsAt(i, []fault{{"the agent and the engine", r.engineRestart}, {"the host", r.reboot}}) {
			if err := r.tryDisaster(ctx, f.what, p, f.strike); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *real) tryDisaster(ctx context.Context, what string, p rotation.Point, strike func(context.Context) error) error {
	ok, err := r.attempt(ctx, what+" at "+p.String(), func() error { return r.strike(ctx, p, strike) })
	r.more(&r.disaster, disaster{string(p.Strategy), what, p.String(), ok})
	return err
}

func (r *real) strike(ctx context.Context, p rotation.Point, strike func(context.Context) error) error {
	if err := r.dieAt(ctx, p); err != nil {
		return err
	}
	if err := strike(ctx); err != nil {
		return err
	}
	if err := r.boot(ctx); err != nil {
		return err
	}
	return r.verify(ctx, p)
}

// boot starts an agent and the engine, in this order: the containers that the engine
// starts ask the agent.
func (r *real) boot(ctx context.Context) error {
	ready, err := r.lab.LaunchAgent(ctx, nil)
	if err != nil {
		return err
	}
	return errors.Join(r.lab.StartDaemon(ctx), ready(ctx))
}

// engineRestart: the agent is dead, and the engine dies with SIGKILL.
func (r *real) engineRestart(context.Context) error { return r.lab.Kill() }

// reboot: engine and containers die too, and /run is empty.
func (r *real) reboot(ctx context.Context) error { return r.lab.CutPower(ctx) }
