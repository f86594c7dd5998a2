// Command load sends HTTP requests at a constant rate and writes what it saw as
// JSON, when its time is over, its stop file appears or it is told to stop.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/docker-secret-operator/dso/test/load"
)

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	var opts load.Options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&opts.URL, "url", "", "what to ask for")
	flags.IntVar(&opts.Rate, "rate", 500, "requests per second")
	flags.DurationVar(&opts.Duration, "duration", 0, "how long; without end when 0")
	flags.DurationVar(&opts.Timeout, "timeout", 0, "of one request; 2s when 0")
	flags.BoolVar(&opts.KeepAlive, "keepalive", false, "use connections again instead of one per request")
	flags.IntVar(&opts.Connections, "connections", 8, "at once, with -keepalive")
	flags.BoolVar(&opts.ResolveOnce, "resolve-once", false, "look the host name up at the start only")
	flags.StringVar(&opts.StopFile, "stop-file", "", "stop when this file appears")
	flags.StringVar(&opts.FloorFile, "floor-file", "", "a file with the oldest marker vN that is not wrong")
	out := flags.String("out", "", "where the result goes, in one piece; standard output when empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	result, err := load.Run(ctx, opts)
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	content = append(content, '\n')
	if *out == "" {
		_, err = stdout.Write(content)
		return err
	}
	// Whoever waits for the file must not read half of it.
	if err := os.WriteFile(*out+".tmp", content, 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return os.Rename(*out+".tmp", *out)
}
