package main

import (
	"context"
	"net"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// started runs a datakeeper until the returned function is called.
func started(t *testing.T, data string) (address string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	address = l.Addr().String()
	assert.NilError(t, l.Close())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keep(ctx, data, address) }()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := ask(t.Context(), address); err == nil {
			break
		}
		assert.Assert(t, time.Now().Before(deadline), "it never answered")
	}
	return address, func() error {
		cancel()
		return <-done
	}
}

func TestDatakeeper_CountsItsStarts(t *testing.T) {
	data := t.TempDir()
	for _, want := range []string{"1", "2"} {
		address, stop := started(t, data)
		got, err := ask(t.Context(), address)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
		assert.NilError(t, stop())
	}
}

func TestDatakeeper_RefusesASecondOneOnTheSameData(t *testing.T) {
	data := t.TempDir()
	address, stop := started(t, data)
	assert.ErrorIs(t, keep(t.Context(), data, "127.0.0.1:0"), errHeld)
	got, err := ask(t.Context(), address)
	assert.NilError(t, err)
	assert.Equal(t, got, "1", "the refused one left no line")
	assert.NilError(t, stop())
}
