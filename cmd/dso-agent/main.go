// Command dso-agent is the host daemon of DSO: it answers dso-runtime, keeps
// containers at the current versions of their secrets, and serves the command
// line. It needs no configuration file.
package main

import (
	"context"
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
	flag.StringVar(&cfg.VaultDir, "vault", "", "directory of the local vault (default: ~/.dso)")
	flag.StringVar(&cfg.Front, "front", "", "the program dso-front (default: beside dso-agent)")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version.Version)
		return
	}
	if err := run(cfg); err != nil {
		cfg.Log.Error("agent ended", "error", err)
		os.Exit(1)
	}
}

func run(cfg agent.Config) error {
	if err := agent.HardenProcess(); err != nil {
		return err
	}
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return a.Run(ctx)
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
