// Command docker-dso is DSO's command line: the Docker CLI plugin "docker dso",
// and "dso" when it is installed under that name.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/flags"
	"github.com/moby/moby/client"

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
	e := cli.Endpoint{Context: dockerCLI.CurrentContext()}
	if e.Context != command.DefaultContextName {
		// Docker only warns of a context that is not there, and goes on without an engine.
		meta, err := dockerCLI.ContextStore().GetMetadata(e.Context)
		if err == nil {
			_, err = docker.EndpointFromContext(meta)
		}
		if errdefs.IsNotFound(err) {
			err = errors.New("there is no such context")
		}
		if e.Err = err; err != nil {
			return e
		}
	}
	e.Host = dockerCLI.DockerEndpoint().Host
	if e.Host == "" {
		e.Err = errors.New("it names no engine")
	}
	e.Identity = func(ctx context.Context) (string, error) {
		r, err := dockerCLI.Client().Info(ctx, client.InfoOptions{})
		return cli.EngineName(r.Info.ID, r.Info.DockerRootDir), err
	}
	return e
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
