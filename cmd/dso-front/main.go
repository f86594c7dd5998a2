// Command dso-front is PID 1 of a front container: it has the kernel forward what
// arrives at the container to the ones that the agent's map names.
//
// It takes no arguments. Its environment:
//
//	DSO_FRONT_DIR       directory with the map (default /run/dso-front)
//	DSO_FRONT_TARGETS   names to use without a map, separated by commas
//	DSO_FRONT_RESOLVER  host:port of the DNS server (default Docker's)
package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/docker-secret-operator/dso/internal/front"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func main() {
	stdlog.Silence()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if err := run(log); err != nil {
		log.Error("dso-front", "error", err.Error())
		os.Exit(1)
	}
}

// A front has little to remember and stands before every service: it gives memory
// back early, at the price of a collection every few seconds.
const gcPercent = 10

func run(log *slog.Logger) error {
	debug.SetGCPercent(gcPercent)
	runtime.GOMAXPROCS(1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	f, err := front.New(front.Config{
		Dir:      cmp.Or(os.Getenv("DSO_FRONT_DIR"), "/run/dso-front"),
		Fallback: strings.FieldsFunc(os.Getenv("DSO_FRONT_TARGETS"), func(r rune) bool { return r == ',' || r == ' ' }),
		Resolver: os.Getenv("DSO_FRONT_RESOLVER"),
		Log:      log,
	})
	if err != nil {
		return err
	}
	return f.Run(ctx)
}
