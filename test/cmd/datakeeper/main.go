// Command datakeeper is the test's pretend database: it must never run twice on
// the same data.
//
//	datakeeper               serve
//	datakeeper healthcheck   exit 0 when the server in this container answers
//
// It takes the lock DATA/lock for its whole life and exits with 3 when another
// holds it, adds a line to DATA/journal at each start, and answers every
// connection with the number of lines, which tells lost data from kept data.
//
// Environment: DATA (/data), PORT (5432), APP_SECRET (optional; a reference
// that was left unresolved is an error).
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var errHeld = errors.New("another process holds the data: two at once")

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "datakeeper:", err)
	if errors.Is(err, errHeld) {
		return 3
	}
	return 1
}

func run(ctx context.Context, args []string, getenv func(string) string) error {
	if strings.HasPrefix(getenv("APP_SECRET"), "dso://") {
		return errors.New("APP_SECRET is an unresolved reference")
	}
	data, port := orElse(getenv("DATA"), "/data"), orElse(getenv("PORT"), "5432")
	if len(args) > 0 && args[0] == "healthcheck" {
		_, err := ask(ctx, "127.0.0.1:"+port)
		return err
	}
	return keep(ctx, data, ":"+port)
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// keep serves until ctx ends. The lock ends with the process, however it ends.
func keep(ctx context.Context, data, address string) error {
	lock, err := os.OpenFile(filepath.Join(data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock data: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", data, errHeld)
	}
	journal := filepath.Join(data, "journal")
	if err := record(journal); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		answer(conn, journal)
	}
}

// record adds this start to the journal, on the disk before it is served.
func record(journal string) error {
	f, err := os.OpenFile(journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339Nano))
	return errors.Join(err, f.Sync(), f.Close())
}

func answer(conn net.Conn, journal string) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	content, err := os.ReadFile(journal)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintln(conn, bytes.Count(content, []byte("\n")))
}

// ask returns what a datakeeper answers.
func ask(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) == 0 {
		err = errors.New("no answer")
	}
	return strings.TrimSpace(string(answer)), err
}
