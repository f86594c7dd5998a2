// Command docker-dso is DSO's command line: the Docker CLI plugin "docker dso",
// and "dso" when it is installed under that name.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/flags"

	"github.com/docker-secret-operator/dso/internal/cli"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func main() {
	stdlog.Silence()
	if filepath.Base(os.Args[0]) == "dso" {
		os.Exit(standalone())
	}
	os.Exit(asPlugin())
}

func standalone() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return finish(cli.New(os.Stdin, os.Stdout, os.Stderr, false, cli.WithEndpoint(ownEndpoint)).ExecuteContext(ctx))
}

// ownEndpoint reads docker's configuration, as docker does before it runs a plugin. A
// configuration that cannot be read means no engine elsewhere.
func ownEndpoint() cli.Endpoint {
	dockerCLI, err := command.NewDockerCli()
	if err != nil || dockerCLI.Initialize(flags.NewClientOptions()) != nil {
		return cli.Endpoint{}
	}
	return endpointOf(dockerCLI)
}

func endpointOf(dockerCLI command.Cli) cli.Endpoint {
	return cli.Endpoint{Context: dockerCLI.CurrentContext(), Host: dockerCLI.DockerEndpoint().Host}
}

func asPlugin() int {
	dockerCLI, err := command.NewDockerCli()
	if err != nil {
		return finish(err)
	}
	root := cli.New(os.Stdin, os.Stdout, os.Stderr, true, cli.WithEndpoint(func() cli.Endpoint { return endpointOf(dockerCLI) }))
	root.SetContext(context.Background())
	return finish(plugin.RunPlugin(dockerCLI, root, cli.Metadata))
}

func finish(err error) int {
	if err != nil {
		cli.PrintError(os.Stderr, err)
	}
	return cli.ExitCode(err)
}
