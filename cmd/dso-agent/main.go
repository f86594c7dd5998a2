// Command dso-agent is the host daemon of DSO: it answers dso-runtime, keeps
// containers at the current versions of their secrets, and serves the command
// line. It needs no configuration file; with one it reads other stores than the
// local vault too.
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
	"time"

	"github.com/mattn/go-isatty"

	"github.com/docker-secret-operator/dso/internal/address/lane"
	"github.com/docker-secret-operator/dso/internal/agent"
	"github.com/docker-secret-operator/dso/internal/agentlog"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/stdlog"
	"github.com/docker-secret-operator/dso/internal/version"
)

func main() {
	stdlog.Silence()
	level := new(slog.LevelVar)
	cfg := agent.Config{Version: version.Version, Log: logger(config.Logging{Format: "auto"}, level), Level: level}
	flag.StringVar(&cfg.Engine, "host", "", "address of the Docker Engine (default: DOCKER_HOST, or the local socket)")
	flag.StringVar(&cfg.StateDir, "state-dir", "/var/lib/dso", "directory of the durable state")
	flag.StringVar(&cfg.RunDir, "run-dir", "/run/dso", "directory of the sockets and the private tmpfs")
	flag.StringVar(&cfg.LockDir, "lock-dir", "/run/lock/dso", "directory of the engines' locks; it must be one and the same for every agent of the host, "+
		"because two agents on one engine undo each other's rotations")
	flag.BoolVar(&cfg.Standby, "standby", false, "when another agent has the engine, the state or the run directory, wait and take over when it is gone")
	flag.StringVar(&cfg.VaultDir, "vault", "", "directory of the local vault (default: ~/.dso)")
	flag.StringVar(&cfg.Front, "front", "", "the program dso-front (default: beside dso-agent)")
	for _, name := range []string{"c", "config"} {
		flag.StringVar(&cfg.ConfigFile, name, "", "the configuration `file` (default: "+config.SystemFile+", or ./"+config.LocalFile+", or none)")
	}
	flag.BoolVar(&cfg.OnHost, "in-container", false, "this is a container that sees the host's processes: mount the private tmpfs on the host, and call the host's iptables")
	prepare := flag.Bool("prepare", false, "make the directories and mount the private tmpfs, and exit: what a sandboxed agent cannot do for the engine to see")
	alive := flag.Bool("alive", false, "ask the agent of --run-dir whether it lives, end it when it says nothing for 30 seconds, and exit: the health check of the agent's container")
	forget := flag.Bool("forget", false, "remove what an agent that was killed has left in the engine's firewall, and exit")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version.Version)
		return
	}
	do := run
	switch {
	case *prepare:
		do = func(cfg *agent.Config) error { return agent.Prepare(*cfg) }
	case *alive:
		do = func(cfg *agent.Config) error { return agent.CheckAlive(context.Background(), cfg.RunDir) }
	case *forget:
		do = func(*agent.Config) error { return lane.Forget(context.Background(), "") }
	}
	begun := time.Now()
	if err := do(&cfg); err != nil {
		fail(cfg.Log, err)
		rest(begun)
		os.Exit(1)
	}
}

// restFor is the shortest time between two agents that end with an error.
const restFor = time.Second

// rest is a pause that systemd does not make: as long as a connection waits in one of its
// sockets, it starts the next agent at once.
func rest(begun time.Time) {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		time.Sleep(time.Until(begun.Add(restFor)))
	}
}

// fail says why the agent ends; a configuration has a line for each problem.
func fail(log *slog.Logger, err error) {
	var more []any
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		more = append(more, "hint", hinted.Hint())
	}
	var problems *config.Error
	if !errors.As(err, &problems) {
		log.Error("agent ended", append([]any{"error", err}, more...)...)
		return
	}
	for _, p := range problems.Problems {
		log.Error("agent ended: the configuration cannot be used", append([]any{"error", p.String()}, more...)...)
	}
}

func run(cfg *agent.Config) error {
	if err := agent.HardenProcess(); err != nil {
		return err
	}
	if cfg.Loaded, cfg.Bad = agent.LoadConfig(cfg.ConfigFile); cfg.Bad == nil {
		cfg.Log = logger(cfg.Loaded.Logging, cfg.Level)
	}
	if err := agent.LockMemory(); err != nil {
		cfg.Log.Warn("values in memory may be swapped out", "error", err)
	}
	if cfg.OnHost { // nobody else prepares it
		if err := agent.Prepare(*cfg); err != nil {
			return err
		}
	}
	cfg.Sockets = agent.InheritSockets()
	signal.Ignore(syscall.SIGHUP) // until there is something to reload: it would end a standby
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return agent.Run(ctx, *cfg)
}

// logger writes text or JSON; "auto" is text to a terminal and JSON to everything
// else. The format is that of the start, the level follows the configuration.
func logger(l config.Logging, level *slog.LevelVar) *slog.Logger {
	if l.Format == "text" || l.Format == "auto" && isatty.IsTerminal(os.Stderr.Fd()) {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: lowerLevel}
	if os.Getenv("JOURNAL_STREAM") != "" {
		return slog.New(agentlog.NewHandler(os.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, options))
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
