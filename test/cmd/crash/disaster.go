package main

import (
	"context"
	"errors"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// struck are the points at which more dies than the agent: at least one where
// nothing is decided, one in the middle of the change-over, one past the point of
// no return and one on the way back, of each strategy that has it.
func struck(p rotation.Point) bool {
	switch p.Step {
	case rotation.StepStart, rotation.StepCutOver, rotation.StepNameOriginal, rotation.StepStop, rotation.StepRemove,
		rotation.StepRevive, rotation.StepRemoveReplacement,
		rotation.StepRestart, rotation.StepRestartOld, rotation.StepRefresh, rotation.StepRefreshOld,
		rotation.StepSignal, rotation.StepSignalOld, rotation.StepExec, rotation.StepExecOld:
		return p.Moment == rotation.After
	}
	return false
}

func (r *real) disasters(ctx context.Context, points []rotation.Point) error {
	for _, p := range points {
		if !undisturbed(p) || !struck(p) {
			continue
		}
		if err := r.tryDisaster(ctx, "the agent and the engine", p, r.engineRestart); err != nil {
			return err
		}
		if err := r.tryDisaster(ctx, "the host", p, r.reboot); err != nil {
			return err
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
