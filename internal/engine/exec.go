package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Exec runs a command in a container, with the container's user and environment, and
// returns its exit code. What it prints is nobody's: it may be a value. A command that
// goes on when ctx ends is left to itself: the engine has no call that ends one.
func (c *Client) Exec(ctx context.Context, id string, command []string) (code int, err error) {
	code, err = c.exec(ctx, id, command)
	return code, wrap("run a command in", id, err)
}

func (c *Client) exec(ctx context.Context, id string, command []string) (code int, err error) {
	created, err := c.api.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, err
	}
	att, err := c.api.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, err
	}
	defer att.Close()
	stop := context.AfterFunc(ctx, func() { att.Close() })
	defer stop()
	if _, err := io.Copy(io.Discard, att.Reader); err != nil {
		return 0, errors.Join(err, ctx.Err())
	}
	// The engine hears of the end a moment after the output has ended.
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		res, err := c.api.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
		if err != nil || !res.Running {
			return res.ExitCode, err
		}
		select {
		case <-time.After(execPause):
		case <-ctx.Done():
		}
	}
}

// execPause is how often the engine is asked whether a command has ended.
const execPause = 10 * time.Millisecond

// defaultCheckTimeout is the engine's own for one run of a health check.
const defaultCheckTimeout = 30 * time.Second

// RunHealthcheck runs the container's health check once, as the engine itself
// would, and returns nil when it passes. A container without one passes.
func (c *Client) RunHealthcheck(ctx context.Context, ct Container) error {
	command := healthCommand(ct.Spec.Config)
	if command == nil {
		return nil
	}
	timeout := defaultCheckTimeout
	if t := ct.Spec.Config.Healthcheck.Timeout; t > 0 {
		timeout = t
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code, err := c.exec(ctx, ct.ID, command)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return wrap("check health of", ct.ID, err)
}

// healthCommand is the command of a health check: ["CMD", …] or ["CMD-SHELL",
// line], as in the engine's API; nil when there is none.
func healthCommand(cfg *container.Config) []string {
	if cfg == nil || cfg.Healthcheck == nil || len(cfg.Healthcheck.Test) < 2 {
		return nil
	}
	switch test := cfg.Healthcheck.Test; test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		return InShell(cfg, test[1])
	}
	return nil
}

// InShell returns the command that lets the shell of a container read a line.
func InShell(cfg *container.Config, line string) []string {
	shell := []string{"/bin/sh", "-c"}
	if cfg != nil && len(cfg.Shell) > 0 {
		shell = cfg.Shell
	}
	return append(slices.Clone(shell), line)
}
