package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/docker/cli/cli-plugins/plugin"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/version"
)

// Metadata is what the docker CLI asks a plugin for.
var Metadata = metadata.Metadata{
	SchemaVersion:    "0.1.0",
	Vendor:           "The DSO authors",
	Version:          version.Version,
	ShortDescription: "Docker Secret Operator: secrets that reach containers and change while they run",
}

// app is what all commands share.
type app struct {
	socket string
	config string // the file that was named; empty: the usual places
	asJSON bool
	in     io.Reader
	out    io.Writer
	err    io.Writer

	socketNamed func() bool     // whether a person said which socket
	endpoint    func() Endpoint // the engine that is meant
	foreign     func() error    // why it is not this host's agent's
}

// agent is the agent of the engine that docker is pointed at. Of one on another host
// every call is an error that says so.
func (a *app) agent() *client.Client {
	if !a.socketNamed() {
		if err := a.foreign(); err != nil {
			return client.Unreachable(err)
		}
	}
	return client.New(a.socket)
}

// Option is something about the command line that is not always there.
type Option func(*app)

// WithEndpoint says how to learn which engine docker is pointed at; it is called when
// a command needs the agent.
func WithEndpoint(endpoint func() Endpoint) Option { return func(a *app) { a.endpoint = endpoint } }

// print writes v as JSON when that was asked for, and reports whether it was.
func (a *app) print(v any) (bool, error) {
	if !a.asJSON {
		return false, nil
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return true, e.Encode(v)
}

// terminal reports whether a stream is one.
func terminal(stream any) bool {
	f, ok := stream.(interface{ FD() uintptr })
	if ok {
		return isatty.IsTerminal(f.FD())
	}
	g, ok := stream.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(g.Fd())
}

// New returns the root command. asPlugin says that docker runs it.
func New(in io.Reader, out, errw io.Writer, asPlugin bool, options ...Option) *cobra.Command {
	useAgentCredentials()
	a := &app{in: in, out: out, err: errw, endpoint: func() Endpoint { return Endpoint{} }}
	for _, o := range options {
		o(a)
	}
	root := &cobra.Command{
		Use:              "dso",
		Short:            Metadata.ShortDescription,
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true,
		Args:             noSuchCommand,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if asPlugin {
		root.PersistentPreRunE = plugin.PersistentPreRunE
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(&coded{err, ExitUsage}, cmd.CommandPath()+" --help shows its options")
	})
	root.PersistentFlags().StringVar(&a.socket, "socket", wire.AgentSocket, "the agent's socket")
	a.foreign = sync.OnceValue(func() error { return foreign(a.endpoint(), a.socket) })
	a.socketNamed = func() bool { return root.PersistentFlags().Changed("socket") }
	root.PersistentFlags().StringVarP(&a.config, "config", "c", "", "the configuration `file` (default: "+config.SystemFile+", or ./"+config.LocalFile+")")
	root.AddCommand(
		a.initCommand(), a.secretCommand(), a.rotateCommand(), a.syncCommand(), a.applyCommand(), a.pinCommand(), a.unpinCommand(), a.statusCommand(), a.planCommand(), a.rotationsCommand(),
		a.recoverCommand(), a.locksCommand(), a.watchCommand(), a.configCommand(), a.sealCommand(), a.validateCommand(),
		a.composeCommand(), a.upCommand(), a.downCommand(), a.versionCommand(),
		a.whoUsesCommand(), a.inspectCommand(), a.diffCommand(), a.historyCommand(), a.auditCommand(), a.notificationsCommand(),
		a.aboutThisHost(a.doctorCommand()), a.aboutThisHost(a.supportBundleCommand()), a.migrateCommand(), a.envCommand(), a.exportCommand(), a.fetchCommand(), a.injectCommand(),
		a.topCommand(), a.completionCommand(), a.trialCommand(),
		a.aboutThisHost(a.setupCommand(), "root"), a.bootstrapCommand(), a.systemCommand(), a.aboutThisHost(a.logsCommand(), "file"), a.agentCommand(),
	)
	return root
}

// noSuchCommand refuses what follows a command that only has commands below it.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return withHint(usageError("unknown command %q", args[0]), cmd.CommandPath()+" --help lists the commands")
	}
	return nil
}

// noArgs, exactArgs and rangeArgs are cobra's, with the exit code of a wrong
// command line. They never print an argument: it may be a value.
func noArgs(cmd *cobra.Command, args []string) error { return exactArgs(0)(cmd, args) }

func exactArgs(n int) cobra.PositionalArgs { return rangeArgs(n, n) }

func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if slices.Contains(args, "") {
			return withHint(usageError("%s: an argument is empty", cmd.CommandPath()), cmd.UseLine())
		}
		if len(args) >= least && len(args) <= most {
			return nil
		}
		takes := "no arguments"
		switch {
		case most == 1 && least == 1:
			takes = "1 argument"
		case least != most:
			takes = fmt.Sprintf("%d or %d arguments", least, most)
		case most > 0:
			takes = fmt.Sprintf("%d arguments", most)
		}
		return withHint(usageError("%s takes %s, got %d", cmd.CommandPath(), takes, len(args)), cmd.UseLine())
	}
}

func (a *app) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print JSON")
	return cmd
}

// versionReport is the JSON of docker dso version.
type versionReport struct {
	Version string `json:"version"`
	JSON    int    `json:"json"` // of the shapes of all that is printed with --json
}

func (a *app) versionCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "version", Short: "Show the version", Example: "  docker dso version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if done, err := a.print(versionReport{Version: version.Version, JSON: wire.JSONVersion}); done {
				return err
			}
			_, err := fmt.Fprintln(a.out, "dso", version.Version)
			return err
		},
	})
}
