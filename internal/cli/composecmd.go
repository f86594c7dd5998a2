package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
)

func (a *app) composeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compose [OPTIONS] COMMAND [ARG...]", Short: "Run docker compose with what DSO adds to the project",
		Long: `Run docker compose with what DSO adds to the project.

The project is loaded as docker compose would load it, and every option and argument
is passed on. DSO adds a second model file, .dso/compose.yaml beside the first one:
the runtime of the services that use references, and a front for those that can be
changed over without an interruption. It holds no values.`,
		Example:            "  docker dso compose -f compose.yaml -f prod.yaml up -d\n  docker dso compose logs -f web",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			return a.compose(cmd.Context(), args)
		},
	}
}

func (a *app) upCommand() *cobra.Command {
	return a.shortcut("up", "Create and start the project's containers (docker compose up)", "  docker dso up -d\n  docker dso up -f compose.yaml --profile web -d")
}

func (a *app) downCommand() *cobra.Command {
	return a.shortcut("down", "Stop and remove the project's containers (docker compose down)", "  docker dso down")
}

// shortcut is a Compose command of its own, which also takes the options that
// choose the project.
func (a *app) shortcut(name, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: name + " [OPTIONS] [SERVICE...]", Short: short, Example: example, DisableFlagParsing: true, ValidArgsFunction: completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
				return cmd.Help()
			}
			global, rest := splitGlobal(args)
			return a.compose(cmd.Context(), append(append(global, name), rest...))
		},
	}
}

// globalOptions are the options of docker compose that stand before its command
// and take a value (docker compose --help). The first group chooses the project.
func globalOptions(o *compose.Options) *pflag.FlagSet {
	fs := pflag.NewFlagSet("compose", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SetInterspersed(false)
	fs.ParseErrorsAllowlist.UnknownFlags = false
	fs.StringArrayVarP(&o.Files, "file", "f", nil, "")
	fs.StringArrayVar(&o.Profiles, "profile", nil, "")
	fs.StringArrayVar(&o.EnvFiles, "env-file", nil, "")
	fs.StringVar(&o.ProjectDirectory, "project-directory", "", "")
	fs.StringVar(&o.ProjectDirectory, "workdir", "", "")
	fs.StringVarP(&o.ProjectName, "project-name", "p", "", "")
	fs.String("ansi", "", "")
	fs.String("progress", "", "")
	fs.Int("parallel", 0, "")
	for _, name := range []string{"compatibility", "dry-run", "all-resources", "insecure-registry", "verbose"} {
		fs.Bool(name, false, "")
	}
	return fs
}

// choosesProject reports whether an option chooses the project, and so takes a value.
func choosesProject(name string) bool {
	return slices.Contains([]string{"-f", "--file", "--profile", "--env-file", "--project-directory", "-p", "--project-name"}, name)
}

// splitGlobal takes the options that choose the project out of a command's
// arguments, wherever they stand.
func splitGlobal(args []string) (global, rest []string) {
	for i := 0; i < len(args); i++ {
		name, _, inline := strings.Cut(args[i], "=")
		switch {
		case !choosesProject(name):
			rest = append(rest, args[i])
		case inline || i+1 == len(args):
			global = append(global, args[i])
		default:
			global = append(global, args[i], args[i+1])
			i++
		}
	}
	return global, rest
}

// needsModel lists the commands of docker compose that make or change containers,
// and so need the agent and a model that is up to date.
var needsModel = []string{"up", "create", "run", "start", "restart", "scale", "watch"}

// compose runs docker compose on the project with DSO's model file.
func (a *app) compose(ctx context.Context, args []string) error {
	var opts compose.Options
	fs := globalOptions(&opts)
	if err := fs.Parse(args); err != nil {
		return withHint(usageError("docker compose: %v", err), "docker compose --help lists its options")
	}
	rest := fs.Args()
	command := ""
	if len(rest) > 0 {
		command = rest[0]
	}
	p, err := loadProject(ctx, opts)
	if errors.Is(err, compose.ErrNoFile) && !slices.Contains(needsModel, command) {
		return a.runCompose(ctx, args) // such as: down -p name, ls, version
	}
	if err != nil {
		return err
	}
	files, err := a.modelFiles(ctx, p, slices.Contains(needsModel, command))
	if err != nil {
		return err
	}
	resume := a.pauseFor(ctx, p.Name, rest)
	defer resume()
	project := slices.Concat(files, otherGlobals(fs), []string{"--project-name", p.Name, "--project-directory", p.WorkingDir})
	if err := a.moveBehindFronts(ctx, p, project, rest); err != nil {
		return err
	}
	return a.runCompose(ctx, slices.Concat(project, rest))
}

// moveBehindFronts takes away the containers that publish a port themselves which
// their service's new front is to publish. A port belongs to one container, so this
// costs an interruption: it is told, and waits for a word.
func (a *app) moveBehindFronts(ctx context.Context, p *compose.Project, project, rest []string) error {
	if len(rest) == 0 || rest[0] != "up" || slices.Contains(rest, "--dry-run") || slices.Contains(rest, "--no-start") {
		return nil
	}
	var moved []string
	for _, service := range compose.Publishing(p) {
		out, err := a.docker(ctx, "ps", "--filter", "label=com.docker.compose.project="+p.Name, "--filter", "label=com.docker.compose.service="+service,
			"--format", `{{.Names}}{{"\t"}}{{.Label "dso.front"}}{{"\t"}}{{.Ports}}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			name, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
			front, ports, _ := strings.Cut(rest, "\t")
			if front == "" && strings.Contains(ports, "->") {
				_, _ = fmt.Fprintf(a.err, "dso: %s publishes %s itself; from now on the front of %s does\n", name, ports, service)
				if !slices.Contains(moved, service) {
					moved = append(moved, service)
				}
			}
		}
	}
	if len(moved) == 0 {
		return nil
	}
	_, _ = fmt.Fprintf(a.err, "dso: a port belongs to one container: %s will not answer from its stop until its new container is healthy; "+
		"whoever keeps the address that it has now, as an nginx in front of it does, must look it up again, this once\n", strings.Join(moved, ", "))
	if !slices.Contains(rest, "-y") && !slices.Contains(rest, "--yes") {
		if !terminal(a.in) {
			return withHint(usageError("this interrupts %s once, and nobody is here to be asked", strings.Join(moved, ", ")),
				"docker dso up --yes does it; the label dso.update.strategy=restart keeps the service without a front")
		}
		if agreed, err := a.agreed("the service", "Do this?"); err != nil || !agreed {
			return err
		}
	}
	return a.runCompose(ctx, slices.Concat(project, []string{"rm", "--stop", "--force"}, moved))
}

// docker returns what a command of the docker CLI prints.
func (a *app) docker(ctx context.Context, args ...string) (string, error) {
	var failed bytes.Buffer
	cmd := exec.CommandContext(ctx, dockerCLI(), args...)
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, bytes.TrimSpace(failed.Bytes()))
	}
	return string(out), nil
}

// dockerCLI is the program that runs this plugin.
func dockerCLI() string {
	return cmp.Or(os.Getenv(metadata.ReexecEnvvar), "docker")
}

// changesReplicas lists the commands of docker compose that count a service's
// containers, and make or remove some.
var changesReplicas = []string{"up", "create", "scale", "down", "rm"}

// pauseWait bounds the wait for rotations that are going on. It is longer than one
// usually takes; Compose is run all the same.
const pauseWait = 5 * time.Minute

// pauseFor lets the agent end what it is at in the project, and begin nothing while
// Compose is at work: the two containers of a rotation are one too many for Compose,
// which would remove another replica for it. A command that stays in the foreground
// has no end to wait for.
func (a *app) pauseFor(ctx context.Context, project string, rest []string) (resume func()) {
	nothing := func() {}
	if len(rest) == 0 || !slices.Contains(changesReplicas, rest[0]) {
		return nothing
	}
	detached := func(arg string) bool {
		return arg == "-d" || arg == "--detach" || arg == "--wait" || arg == "--no-start"
	}
	if rest[0] == "up" && !slices.ContainsFunc(rest, detached) {
		return nothing
	}
	ctx, cancel := context.WithTimeout(ctx, pauseWait)
	defer cancel()
	resume, err := a.agent().Pause(ctx, project)
	switch {
	case err == nil:
		return resume
	case ctx.Err() != nil:
		_, _ = fmt.Fprintf(a.err, "dso: a rotation in project %s has not ended for %s; docker compose is run all the same\n", project, pauseWait)
	}
	return nothing // without an agent nothing is rotated
}

// loadProject keeps the loader's warnings quiet: docker compose prints them too.
func loadProject(ctx context.Context, opts compose.Options) (*compose.Project, error) {
	logrus.SetOutput(io.Discard)
	return compose.Load(ctx, opts)
}

// modelFiles returns the -f options: the user's files, then DSO's.
func (a *app) modelFiles(ctx context.Context, p *compose.Project, fresh bool) ([]string, error) {
	var files []string
	for _, f := range p.ConfigFiles {
		files = append(files, "--file", f)
	}
	if err := compose.CheckLabels(p); err != nil && fresh {
		return nil, err
	}
	if !compose.UsesReferences(p) {
		return files, nil
	}
	req := wire.FrontRequest{Project: p.Name}
	if fresh {
		claims, err := compose.Claims(p)
		if err != nil {
			return nil, err
		}
		for _, c := range claims {
			req.Ports = append(req.Ports, wire.HostPort{Service: c.Service, Host: c.Host, Number: c.Number, Proto: c.Proto})
		}
	}
	var front wire.FrontImage
	err := a.agent().Call(ctx, "POST", "/v1/fronts/image", req, &front)
	if err == nil {
		text, err := compose.Overlay(p, compose.OverlayOptions{FrontImage: front.Image, FrontDir: front.Dir})
		if err != nil {
			return nil, err
		}
		path, err := compose.WriteOverlay(p, text)
		return append(files, "--file", path), err
	}
	if fresh {
		return nil, fmt.Errorf("prepare project %s: %w", p.Name, err)
	}
	if path, ok := compose.WrittenOverlay(p); ok {
		files = append(files, "--file", path)
	}
	return files, nil
}

// otherGlobals passes on what does not choose the project's files.
func otherGlobals(fs *pflag.FlagSet) []string {
	var out []string
	fs.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "file", "project-directory", "workdir", "project-name":
			return
		}
		if s, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range s.GetSlice() {
				out = append(out, "--"+f.Name, v)
			}
			return
		}
		out = append(out, "--"+f.Name+"="+f.Value.String())
	})
	return out
}

// runCompose runs the user's docker compose and passes its exit code on.
func (a *app) runCompose(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, dockerCLI(), append([]string{"compose"}, args...)...)
	cmd.Cancel = func() error {
		if terminal(os.Stdin) {
			return nil // the terminal has told it already; a second word would mean: at once
		}
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return cli.StatusError{StatusCode: exit.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("run docker compose: %w", err)
	}
	return nil
}
