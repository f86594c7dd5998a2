package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

var errBadSecret = errors.New("the secret is a bad one")

// app answers one secret. A secret that is missing or still a reference is an
// error at the start, never an answer.
type app struct {
	value, file         string
	reload              bool
	unhealthyIf, exitIf string
	udpDelay            time.Duration
	current             atomic.Pointer[string]
	draining            atomic.Bool
}

func newApp(getenv func(string) string) (*app, error) {
	a := &app{
		value: getenv("APP_SECRET"), file: getenv("APP_SECRET_FILE"),
		reload:      getenv("APP_RELOAD") == "1",
		unhealthyIf: getenv("APP_UNHEALTHY_IF"), exitIf: getenv("APP_EXIT_IF"),
		udpDelay: milliseconds(getenv("UDP_DELAY")),
	}
	return a, a.load()
}

// load reads the secret again and keeps the last good one on an error.
func (a *app) load() error {
	secret := a.value
	if a.file != "" {
		content, err := os.ReadFile(a.file)
		if err != nil {
			return fmt.Errorf("read secret: %w", err)
		}
		secret = strings.TrimSpace(string(content))
	}
	switch {
	case secret == "":
		return errors.New("the secret is empty")
	case isReference(secret):
		return errors.New("the secret is an unresolved reference")
	case a.exitIf != "" && strings.Contains(secret, a.exitIf):
		return errBadSecret
	}
	a.current.Store(&secret)
	return nil
}

func isReference(s string) bool {
	return strings.HasPrefix(s, "dso://") || strings.HasPrefix(s, "dsofile://")
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	if a.reload {
		if err := a.load(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	secret := *a.current.Load()
	if r.URL.Path == "/healthz" && a.unhealthyIf != "" && strings.Contains(secret, a.unhealthyIf) {
		http.Error(w, "unhealthy", http.StatusInternalServerError)
		return
	}
	// A client may give a request a length, to be in flight at a stop.
	if d, err := time.ParseDuration(r.URL.Query().Get("take")); err == nil {
		_ = wait(r.Context(), d)
	}
	switch r.URL.Path {
	case "/healthz":
		secret = "ok"
	case "/self":
		var err error
		if secret, err = fetch(r.Context(), r.URL.Query().Get("url")); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	case "/client":
		secret, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	_, _ = io.WriteString(w, secret+"\n")
}

// datagrams answers the secret to every datagram, until the connection is closed.
func (a *app) datagrams(conn net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		answer := []byte(*a.current.Load())
		if a.udpDelay == 0 {
			_, _ = conn.WriteTo(answer, from)
			continue
		}
		time.AfterFunc(a.udpDelay, func() { _, _ = conn.WriteTo(answer, from) })
	}
}

// serve ends requests in flight before it returns, and accepts none after ctx
// ended and the drain time is over.
func (a *app) serve(ctx context.Context, address string, drain time.Duration) error {
	server := &http.Server{Addr: address, Handler: a, ReadHeaderTimeout: 10 * time.Second}
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("serve %s over UDP: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	go a.datagrams(conn)
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", address, err)
	case <-ctx.Done():
	}
	a.draining.Store(true)
	_ = wait(context.WithoutCancel(ctx), drain)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}
