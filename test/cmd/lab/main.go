// Command lab opens a shell in a private engine with an agent in it: plain
// docker, docker compose and docker dso talk to that engine, and when the shell
// ends everything is gone. It runs as root, from the repository.
//
//	bin/lab                    a shell
//	bin/lab bash script.sh     one command
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/docker-secret-operator/dso/test/lab"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	l, err := lab.Open(ctx, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.StartAgent(ctx); err != nil {
		return err
	}
	if _, err := l.DSO(ctx, "init"); err != nil {
		return err
	}
	if len(command) == 0 {
		command = []string{"bash", "-i"}
	}
	cmd := l.CommandIn(ctx, l.Dir, command[0], command[1:]...)
	cmd.Env = append(cmd.Env, "AGENT_LOG="+l.AgentLog(), "ENGINE_ADDRESS="+l.Address())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
