package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/docker-secret-operator/dso/internal/agentlog"
	"github.com/docker-secret-operator/dso/internal/hostsetup"
)

func (a *app) systemCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "system", Short: "Look at the agent as a service of this host, start and stop it", Args: noSuchCommand, Example: "  docker dso system status\n  docker dso system logs -n 100\n  docker dso system restart",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	control := func(use, short string, do func(*hostsetup.Host, context.Context) error, done string) *cobra.Command {
		return a.aboutThisHost(a.jsonFlag(&cobra.Command{
			Use: use, Short: short, Args: noArgs, Example: "  docker dso system " + use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := onlyRoot("run it as root"); err != nil {
					return err
				}
				if err := do(a.installer(""), cmd.Context()); err != nil {
					return err
				}
				if printed, err := a.print(systemAction{Done: use}); printed {
					return err
				}
				_, err := fmt.Fprintln(a.out, done)
				return err
			},
		}))
	}
	cmd.AddCommand(
		a.aboutThisHost(a.systemStatus()), a.aboutThisHost(a.systemLogs(), "file"),
		control("enable", "Start the agent now and at boot", (*hostsetup.Host).Enable, "the agent starts, now and at boot"),
		control("disable", "Stop the agent, now and at boot; containers go on, and starts that need a value are refused", (*hostsetup.Host).Disable, "the agent does not run, and does not start at boot"),
		control("restart", "Start the agent anew; containers go on, and starts wait", (*hostsetup.Host).Restart, "the agent starts anew"),
	)
	return cmd
}

// systemAction is the JSON of docker dso system enable, disable and restart.
type systemAction struct {
	Done string `json:"done"` // the command that was
}

// systemReport is the JSON of docker dso system status.
type systemReport struct {
	hostsetup.Service
	Answers bool   `json:"answers"`
	Error   string `json:"error,omitempty"`
}

func (a *app) systemStatus() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "status", Short: "Show whether the agent runs, and who keeps it alive", Args: noArgs,
		Example: "  docker dso system status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := a.installer("")
			s, err := h.Service(cmd.Context())
			if err != nil {
				return err
			}
			r := systemReport{Service: s, Answers: true}
			answer := h.Answers(cmd.Context())
			if answer != nil {
				r.Answers, r.Error = false, answer.Error()
			}
			if done, err := a.print(r); done {
				return err
			}
			boot := "starts at boot"
			if !r.Enabled {
				boot = "does not start at boot"
			}
			_, _ = fmt.Fprintf(a.out, "agent: %s, kept alive by %s, %s\n", r.State, r.Manager, boot)
			if r.PID > 0 {
				_, _ = fmt.Fprintf(a.out, "process %d since %s, started again %d times\n", r.PID, r.Since, r.Restarts)
			}
			if r.Said != "" {
				_, _ = fmt.Fprintf(a.out, "it says: %s\n", r.Said)
			}
			if r.Answers {
				_, err = fmt.Fprintln(a.out, "it answers")
				return err
			}
			_, err = fmt.Fprintf(a.out, "it does not answer: %s\n", r.Error)
			return err
		},
	})
}

// logsCommand is systemLogs under its name of DSO 3.5, whose words for two options it knows.
func (a *app) logsCommand() *cobra.Command {
	cmd := a.systemLogs()
	cmd.Long, cmd.Example = "The same as docker dso system logs, but for 100 lines where nothing is said.", "  docker dso logs\n  docker dso logs -f --level error"
	lines := cmd.Flags().Lookup("lines")
	_ = lines.Value.Set("100")
	lines.DefValue = "100"
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "tail":
			name = "lines"
		case "level":
			name = "priority"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

func (a *app) systemLogs() *cobra.Command {
	var q hostsetup.LogQuery
	var since, file string
	cmd := &cobra.Command{
		Use: "logs", Short: "Show what the agent logged", Args: noArgs,
		Long: `Show what the agent logged: from the journal, from the container it runs as, or from the
file ` + hostsetup.LogFile + ` where there is neither.`,
		Example: "  docker dso system logs -n 100\n  docker dso system logs -f\n  docker dso system logs --since 1h --priority warn",
		RunE: func(cmd *cobra.Command, _ []string) error {
			choose := agentlog.Query{Last: q.Last, Priority: agentlog.Debug}
			var err error
			if since != "" {
				if q.Since, err = agentlog.ParseSince(since, time.Now()); err != nil {
					return &coded{err, ExitUsage}
				}
				choose.Since = q.Since
			}
			if q.Priority != "" {
				if choose.Priority, err = agentlog.ParsePriority(q.Priority); err != nil {
					return &coded{err, ExitUsage}
				}
				q.Priority = fmt.Sprint(int(choose.Priority)) // a word that journalctl knows
			}
			log := hostsetup.Log{File: file, Raw: true}
			if file == "" {
				if log, err = a.installer("").Log(cmd.Context(), q); err != nil {
					return err
				}
			}
			return a.printLog(cmd.Context(), log, choose, q.Follow)
		},
	}
	countVar(cmd.Flags(), &q.Last, "lines", "n", "the last `number` of lines that are there")
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "show what is logged from now on, too")
	cmd.Flags().StringVar(&since, "since", "", "from this `moment` on: 1h30m, 2026-05-04, 2026-05-04 03:02")
	cmd.Flags().StringVar(&q.Priority, "priority", "", "this `priority` and what is more urgent: error, warn, info, debug")
	completeOption(cmd, "priority", words("error", "warn", "info", "debug"))
	cmd.Flags().StringVar(&file, "file", "", "read this `file` instead")
	cmd.Flags().BoolVar(&q.JSON, "json", false, "the agent's own lines, which are JSON, and nothing before them")
	return cmd
}

func (a *app) printLog(ctx context.Context, log hostsetup.Log, q agentlog.Query, follow bool) error {
	if log.File != "" {
		return a.printLogFile(ctx, log.File, q, follow)
	}
	c := exec.CommandContext(ctx, log.Command[0], log.Command[1:]...)
	c.Stderr = a.err
	if !log.Raw {
		c.Stdout = a.out
		return commandError(c.Run())
	}
	out, w := io.Pipe()
	c.Stdout, c.Stderr = w, w // an engine keeps the two apart, and the agent logs to one
	ended := make(chan error, 1)
	go func() {
		err := c.Run()
		ended <- err
		_ = w.Close()
	}()
	copy := q.Copy
	if follow {
		copy = q.Follow
	}
	if err := copy(a.out, out); err != nil {
		return err
	}
	return commandError(<-ended)
}

// commandError keeps quiet about a program that was ended by the one who looks on.
func commandError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() < 0 {
		return nil
	}
	return err
}

// logPoll is how often a file is looked at again.
const logPoll = 250 * time.Millisecond

func (a *app) printLogFile(ctx context.Context, path string, q agentlog.Query, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := q.Copy(a.out, f); err != nil || !follow {
		return err
	}
	return q.Follow(a.out, &growing{ctx, f})
}

// growing is a file that does not end before ctx does.
type growing struct {
	ctx context.Context
	f   *os.File
}

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.f.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		select {
		case <-time.After(logPoll):
		case <-g.ctx.Done():
			return 0, io.EOF
		}
	}
}
