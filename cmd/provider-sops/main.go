// Command dso-provider-sops is a provider program for DSO: it reads the files below
// one directory that sops has encrypted. docs/reference/providers.md explains it.
//
// It is a module of its own because sops links the clients of every key service.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/docker-secret-operator/dso/internal/provider/program"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func main() {
	stdlog.Silence()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dso-provider-sops:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: dso-provider-sops DIRECTORY")
	}
	return program.Serve(context.Background(), &store{dir: args[0]}, os.Stdin, os.Stdout)
}
