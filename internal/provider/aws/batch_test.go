package aws_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/aws"
)

// operations are a store's: one, and several at a time.
var operations = map[aws.Service][2]string{
	aws.SecretsManager: {"GetSecretValue", "BatchGetSecretValue"}, aws.ParameterStore: {"GetParameter", "GetParameters"},
}

// waits until so many questions wait.
func waits(t *testing.T, p *aws.Provider, n int) {
	t.Helper()
	tick, late := time.NewTicker(time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for p.Waiting() != n {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d questions wait, not %d", p.Waiting(), n)
		}
	}
}

// getAll asks for all paths while the store does not answer, and lets it answer when all wait.
func getAll(t *testing.T, f *fake, p *aws.Provider, paths []string) map[string]error {
	t.Helper()
	f.gate = make(chan struct{})
	errs := map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, path := range paths {
		all.Go(func() {
			value, _, err := p.Get(t.Context(), path, "")
			if err == nil && string(value.Reveal()) != "value of "+path {
				err = fmt.Errorf("%s has the value of another", path)
			}
			mu.Lock()
			defer mu.Unlock()
			errs[path] = err
		})
	}
	waits(t, p, len(paths)-2) // the two that are asked at once wait for the store
	close(f.gate)
	all.Wait()
	return errs
}

func paths(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("app/s%d", i))
	}
	return all
}

func TestBatch_WhatComesMeanwhileIsAskedTogether(t *testing.T) {
	for service, put := range services {
		t.Run(string(service), func(t *testing.T) {
			f := newFake()
			p, _, _ := open(t, f, service, nil)
			for _, path := range paths(12) {
				put(f)(path, []byte("value of "+path))
			}
			for path, err := range getAll(t, f, p, paths(12)) {
				assert.NilError(t, err, path)
			}
			assert.Equal(t, f.count(operations[service][0]), 2)
			assert.Equal(t, f.count(operations[service][1]), 1)
		})
	}
}

func TestBatch_OneThatIsMissingIsItsOwnError(t *testing.T) {
	for service, put := range services {
		t.Run(string(service), func(t *testing.T) {
			f := newFake()
			p, _, _ := open(t, f, service, nil)
			all := paths(12)
			for _, path := range all[1:] {
				put(f)(path, []byte("value of "+path))
			}
			errs := getAll(t, f, p, all)
			assert.ErrorIs(t, errs[all[0]], provider.ErrNotFound)
			for _, path := range all[1:] {
				assert.NilError(t, errs[path], path)
			}
		})
	}
}

// A policy may allow the one call and not the other.
func TestBatch_WhoeverMayNotIsAskedAlone(t *testing.T) {
	for service, put := range services {
		t.Run(string(service), func(t *testing.T) {
			f := newFake()
			p, _, _ := open(t, f, service, nil)
			for _, path := range paths(6) {
				put(f)(path, []byte("value of "+path))
			}
			f.refuse(operations[service][1], "AccessDeniedException")
			for path, err := range getAll(t, f, p, paths(6)) {
				assert.NilError(t, err, path)
			}
			assert.Equal(t, f.count(operations[service][1]), 1)
			assert.Equal(t, f.count(operations[service][0]), 6)
		})
	}
}

func TestBatch_NobodyWaitsLongerThanHisOwnTime(t *testing.T) {
	f := newFake()
	p, _, _ := open(t, f, aws.ParameterStore, nil)
	f.gate = make(chan struct{})
	defer close(f.gate)
	ctx, cancel := context.WithCancel(t.Context())
	var errs [4]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, _, errs[i] = p.Get(ctx, fmt.Sprintf("app/s%d", i), "") })
	}
	waits(t, p, 2)
	cancel()
	all.Wait()
	for _, err := range errs {
		assert.Assert(t, errors.Is(err, context.Canceled), "%v", err)
	}
}
