// Command dso-agent is the host daemon of DSO: it answers dso-runtime, keeps
// containers at the current versions of their secrets, and serves the command
// line. It needs no configuration file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"

	"github.com/docker-secret-operator/dso/internal/agent"
	"github.com/docker-secret-operator/dso/internal/version"
)

func main() {
	cfg := agent.Config{Version: version.Version, Log: logger()}
	flag.StringVar(&cfg.Engine, "host", "", "address of the Docker Engine (default: DOCKER_HOST, or the local socket)")
	flag.StringVar(&cfg.StateDir, "state-dir", "/var/lib/dso", "directory of the durable state")
	flag.StringVar(&cfg.RunDir, "run-dir", "/run/dso", "directory of the sockets and the private tmpfs")
	flag.StringVar(&cfg.LockDir, "lock-dir", "/run/lock/dso", "directory of the engines' locks; it must be one and the same for every agent of the host, "+
		"because two agents on one engine undo each other's rotations")
	flag.BoolVar(&cfg.Standby, "standby", false, "when another agent has the engine, the state or the run directory, wait and take over when it is gone")
	flag.StringVar(&cfg.VaultDir, "vault", "", "directory of the local vault (default: ~/.dso)")
	flag.StringVar(&cfg.Front, "front", "", "the program dso-front (default: beside dso-agent)")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version.Version)
		return
	}
	if err := run(cfg); err != nil {
		attrs := []any{"error", err}
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			attrs = append(attrs, "hint", hinted.Hint())
		}
		cfg.Log.Error("agent ended", attrs...)
		os.Exit(1)
	}
}

func run(cfg agent.Config) error {
	if err := agent.HardenProcess(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return agent.Run(ctx, cfg)
}

// logger writes text to a terminal and JSON to everything else.
func logger() *slog.Logger {
	if isatty.IsTerminal(os.Stderr.Fd()) {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: lowerLevel}))
}

// lowerLevel writes levels as the log lines in the documentation show them.
func lowerLevel(_ []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && a.Key == slog.LevelKey {
		switch level {
		case slog.LevelInfo:
			a.Value = slog.StringValue("info")
		case slog.LevelWarn:
			a.Value = slog.StringValue("warn")
		case slog.LevelError:
			a.Value = slog.StringValue("error")
		case slog.LevelDebug:
			a.Value = slog.StringValue("debug")
		}
	}
	return a
}
