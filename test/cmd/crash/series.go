package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"

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
	rolling := ofStrategies(points, rotation.Rolling)
	started, reloaded := ofStrategies(points, rotation.Rolling, rotation.Restart, rotation.None), ofStrategies(points, rotation.Signal, rotation.Exec)
	others := ofStrategies(points, rotation.Restart, rotation.None)
	// The longest first: what comes last should not be alone for long.
	all := []struct {
		wanted bool
		ground ground
		series series
	}{
		{len(others) > 0, starting, func(ctx context.Context, r *real) error {
			return errors.Join(r.agentDeaths(ctx, others), r.disasters(ctx, others), r.persons(ctx, others))
		}},
		{len(rolling) > 0, starting, func(ctx context.Context, r *real) error {
			return errors.Join(r.disasters(ctx, rolling), r.persons(ctx, rolling))
		}},
		{len(rolling) > 0, starting, func(ctx context.Context, r *real) error { return r.underLoad(ctx, rolling) }},
		{anyStruck(rotation.Rolling, only), starting, func(ctx context.Context, r *real) error { return r.strikes(ctx, rotation.Rolling, only) }},
		{anyStruck(rotation.Restart, only), starting, func(ctx context.Context, r *real) error { return r.strikes(ctx, rotation.Restart, only) }},
		{len(started) > 0, starting, func(ctx context.Context, r *real) error {
			return errors.Join(r.failures(ctx, started), r.fullDisk(ctx, started))
		}},
		{len(reloaded) > 0, reloading, func(ctx context.Context, r *real) error {
			return errors.Join(r.agentDeaths(ctx, reloaded), r.disasters(ctx, reloaded))
		}},
		{len(reloaded) > 0, reloading, func(ctx context.Context, r *real) error {
			return errors.Join(r.failures(ctx, reloaded), r.fullDisk(ctx, reloaded))
		}},
		{len(rolling) > 0, starting, func(ctx context.Context, r *real) error { return r.replicas(ctx, rolling) }},
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, s := range all {
		if s.wanted {
			group.Go(func() error { return m.on(ctx, root, s.ground, s.series) })
		}
	}
	return group.Wait()
}

// anyStruck reports whether a death at a call has a name that contains only.
func anyStruck(s rotation.Strategy, only string) bool {
	return len(struckCalls(s, false, only))+len(struckCalls(s, true, only)) > 0
}

// ofStrategies are the points of some strategies.
func ofStrategies(points []rotation.Point, strategies ...rotation.Strategy) []rotation.Point {
	return slices.DeleteFunc(slices.Clone(points), func(p rotation.Point) bool { return !slices.Contains(strategies, p.Strategy) })
}

// on runs a series on an engine of its own.
func (m *matrix) on(ctx context.Context, root string, g ground, s series) (err error) {
	r := &real{matrix: m, ground: g, canary: rand.Text(), serves: map[rotation.Strategy]string{}}
	if r.lab, err = lab.Open(ctx, root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	if err := r.bringUp(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, r.agentLog(0))
	}
	return s(ctx, r)
}
