package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/test/lab"
)

// series is what happens one after the other on an engine of its own.
type series func(ctx context.Context, r *real) error

// atOnce is how many series run side by side: they wait much more than they work.
const atOnce = 3

// runReal runs everything that happens on real engines.
func (m *matrix) runReal(ctx context.Context, points []rotation.Point, only string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	rolling, others := of2(points)
	all := []series{
		func(ctx context.Context, r *real) error { return r.underLoad(ctx, rolling) },
		func(ctx context.Context, r *real) error {
			return errors.Join(r.agentDeaths(ctx, others), r.disasters(ctx, others), r.persons(ctx, others))
		},
		func(ctx context.Context, r *real) error {
			return errors.Join(r.disasters(ctx, rolling), r.persons(ctx, rolling))
		},
		func(ctx context.Context, r *real) error { return r.strikes(ctx, rotation.Rolling, only) },
		func(ctx context.Context, r *real) error { return r.strikes(ctx, rotation.Restart, only) },
		func(ctx context.Context, r *real) error {
			return errors.Join(r.failures(ctx, points), r.fullDisk(ctx, points))
		},
		func(ctx context.Context, r *real) error { return r.replicas(ctx, rolling) },
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, s := range all {
		group.Go(func() error { return m.on(ctx, root, s) })
	}
	return group.Wait()
}

// of2 are the points of the rolling strategy, and those of the others.
func of2(points []rotation.Point) (rolling, others []rotation.Point) {
	for _, p := range points {
		if p.Strategy == rotation.Rolling {
			rolling = append(rolling, p)
		} else {
			others = append(others, p)
		}
	}
	return rolling, others
}

// on runs a series on an engine of its own.
func (m *matrix) on(ctx context.Context, root string, s series) (err error) {
	r := &real{matrix: m, serves: map[rotation.Strategy]string{}}
	if r.lab, err = lab.Open(ctx, root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	if err := r.bringUp(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, r.agentLog(0))
	}
	return s(ctx, r)
}
