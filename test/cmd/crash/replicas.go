package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/test/lab"
)

// trio is a service of three replicas, each with a volume of its own.
const trio = `
services:
  web:
    image: ` + lab.Answerer + lab.CheckedSeldom + `
    ports: ["8081:8080"]
    restart: always
    deploy: {replicas: 3}
    volumes: ["/scratch"]
    environment: {APP_SECRET: "dso://secret", APP_EXIT_IF: bad}
    labels: {dso.update.strategy: rolling, dso.monitor: 100ms}
`

var trioPlaces = []string{"trio-web-1", "trio-web-2", "trio-web-3"}

// replicas lets the agent, and the engine, die in the first of three replicas: in the
// end all of them are new, or all old.
func (r *real) replicas(ctx context.Context, points []rotation.Point) error {
	places := chosen(points)
	if len(places) == 0 {
		return nil
	}
	if err := r.bringUpTrio(ctx); err != nil {
		return err
	}
	for i, p := range places {
		for _, f := range r.faultsAt(i, []fault{{"the agent", nil}, {"the agent and the engine", r.engineRestart}}) {
			what := f.what + ", with three replicas"
			ok, err := r.attempt(ctx, what+" at "+p.String(), func() error { return r.strikeTrio(ctx, p, f.strike) })
			r.more(&r.disaster, disaster{"replicas", what, p.String(), ok})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *real) bringUpTrio(ctx context.Context) error {
	if err := r.lab.StartAgent(ctx); err != nil {
		return err
	}
	if err := r.docker(ctx, "rm", "-f", "crash-web-1", "crash-api-1", "crash-data-1", "crash-files-1"); err != nil {
		return err
	}
	dir, err := r.lab.Project("trio", trio)
	if err != nil {
		return err
	}
	if err := r.setTrio(ctx, "v0", false); err != nil {
		return err
	}
	if out, err := r.lab.DSOIn(ctx, dir, "", "up", "-d", "--wait"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return r.lab.KillAgent()
}

func (r *real) setTrio(ctx context.Context, marker string, bad bool) error {
	if bad {
		marker += " bad"
	}
	_, err := r.lab.DSOIn(ctx, "/", marker, "secret", "set", "trio/secret", "--no-wait")
	return err
}

func (r *real) strikeTrio(ctx context.Context, p rotation.Point, strike func(context.Context) error) error {
	if err := r.startWith(ctx, p.String()); err != nil {
		return err
	}
	marker, bad := r.next(), p.Phase == rotation.Back
	setErr := r.setTrio(ctx, marker, bad) // the agent may die before it answers
	if err := r.lab.AwaitAgentEnd(ctx); err != nil {
		return errors.Join(err, setErr)
	}
	if !bad {
		r.serves[rotation.Rolling] = marker
	}
	comeBack := func(ctx context.Context) error { return r.lab.StartAgent(ctx) }
	if strike != nil {
		if err := strike(ctx); err != nil {
			return err
		}
		comeBack = r.boot
	}
	if err := comeBack(ctx); err != nil {
		return err
	}
	return r.verifyTrio(ctx, bad)
}

// settleTrio is how long three replicas may take, one after the other.
const settleTrio = time.Minute

func (r *real) verifyTrio(ctx context.Context, bad bool) error {
	wrong, err := r.lab.CheckWithin(ctx, settleTrio, trioPlaces...)
	if err == nil && len(wrong) > 0 {
		err = errors.New(strings.Join(wrong, "; "))
	}
	if err != nil {
		return err
	}
	st, err := r.lab.Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range st.Containers {
		if c.Pinned != bad {
			return fmt.Errorf("%s is reported with pinned=%t", c.Name, c.Pinned)
		}
		got, err := r.lab.Exec(ctx, c.Name, "/answerer", "get", "http://127.0.0.1:8080/")
		if err != nil || got != r.serves[rotation.Rolling] {
			return fmt.Errorf("%s answers %q, not %q: %w", c.Name, got, r.serves[rotation.Rolling], err)
		}
	}
	return nil
}
