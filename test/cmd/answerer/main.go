// Command answerer is the test's web application: it answers the secret that it
// was given. The secrets of the tests are markers such as v3, so the answer
// tells which version a request was served with. It answers over HTTP and, on the
// same port, every datagram; /client answers the address that the client has, and
// /self?url= what a URL answers that it asks itself.
//
//	answerer                 serve
//	answerer healthcheck     exit 0 when the server in this container is healthy
//	answerer reload          make the server in this container read its file again, exit 0
//	                         when it answers what stands there, with 4 when that is bad
//	answerer get URL         print what the URL answers, exit 1 unless it is 200
//	answerer splice FROM TO  pass what connects to FROM on to TO, as a proxy would
//
// Environment:
//
//	APP_SECRET         the marker
//	APP_SECRET_FILE    a file that holds it instead
//	APP_RELOAD=1       read that file at each request, not once and at SIGHUP
//	APP_UNHEALTHY_IF   a part of a bad marker: /healthz answers 500
//	APP_EXIT_IF        a part of a bad marker: exit with 4 instead of serving
//	PORT               8080
//	START_DELAY        milliseconds before it listens
//	UDP_DELAY          milliseconds until it answers a datagram
//	DRAIN              milliseconds it goes on serving after SIGTERM, asking
//	                   clients to close their connections
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "answerer:", err)
	if errors.Is(err, errBadSecret) {
		return 4
	}
	return 1
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	switch {
	case len(args) == 0:
		return serve(ctx, getenv)
	case args[0] == "healthcheck":
		return healthcheck(ctx, getenv)
	case args[0] == "reload":
		return reload(ctx, getenv)
	case args[0] == "get" && len(args) == 2:
		return get(ctx, args[1], out)
	case args[0] == "splice" && len(args) == 3:
		return splice(ctx, args[1], args[2])
	default:
		return fmt.Errorf("unknown arguments %q", args)
	}
}

func serve(ctx context.Context, getenv func(string) string) error {
	app, err := newApp(getenv)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for range hup {
			if err := app.load(); err != nil {
				fmt.Fprintln(os.Stderr, "answerer: reload:", err)
			}
		}
	}()
	defer close(hup)
	if err := wait(ctx, milliseconds(getenv("START_DELAY"))); err != nil {
		return nil // told to stop before it began
	}
	return app.serve(ctx, ":"+port(getenv), milliseconds(getenv("DRAIN")))
}

func port(getenv func(string) string) string {
	if p := getenv("PORT"); p != "" {
		return p
	}
	return "8080"
}

func milliseconds(text string) time.Duration {
	n, _ := strconv.Atoi(text)
	return time.Duration(n) * time.Millisecond
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// healthcheck is what the image's HEALTHCHECK executes. It also refuses to be
// healthy when this process was given an unresolved reference: what is executed
// in a container must see the same environment as its first process.
func healthcheck(ctx context.Context, getenv func(string) string) error {
	for _, name := range []string{"APP_SECRET", "APP_SECRET_FILE"} {
		if isReference(getenv(name)) {
			return fmt.Errorf("%s is an unresolved reference", name)
		}
	}
	return get(ctx, "http://127.0.0.1:"+port(getenv)+"/healthz", io.Discard)
}

// reload is for a container whose first process is the server.
func reload(ctx context.Context, getenv func(string) string) error {
	app, err := newApp(getenv)
	if err != nil {
		return err
	}
	if err := syscall.Kill(1, syscall.SIGHUP); err != nil {
		return err
	}
	want := *app.current.Load() + "\n"
	for deadline := time.Now().Add(10 * time.Second); ; {
		var got strings.Builder
		err := get(ctx, "http://127.0.0.1:"+port(getenv)+"/", &got)
		if err == nil && got.String() == want {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("the server answers something else"), err)
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func get(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := fetch(ctx, url)
	if err == nil {
		_, err = fmt.Fprintln(out, answer)
	}
	return err
}

// fetch returns what a URL answers, without the white space around it.
func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true // the next question may be for another container
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", url, resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return strings.TrimSpace(string(answer)), err
}
