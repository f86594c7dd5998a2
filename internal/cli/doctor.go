package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/docker/cli/cli-plugins/metadata"
	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/doctor/host"
	"github.com/docker-secret-operator/dso/internal/version"
)

// host is this host, as doctor looks at it.
func (a *app) host() host.Host {
	h := host.Host{Agent: a.agent(), Socket: a.socket, Config: a.config, Docker: os.Getenv(metadata.ReexecEnvvar), Version: version.Version}
	if e := a.endpoint(); strings.HasPrefix(e.Host, "unix://") {
		h.Engine = e.Host
	}
	return h
}

func (a *app) doctorCommand() *cobra.Command {
	var fix, test, yes bool
	cmd := a.jsonFlag(&cobra.Command{
		Use: "doctor", Short: "Look for everything that is known to go wrong, and say what to do about it", Args: noArgs,
		Long: `Look for everything that is known to go wrong, and say what to do about it. It changes
nothing and prints no value. As root it sees more.

--fix repairs what can be repaired without taking anything from anybody, and asks about
the rest. --test makes a container of its own, with a secret of its own, and changes it
over once; nothing of it is left.

It exits 1 when a check fails.`,
		Example: "  docker dso doctor\n  docker dso doctor --json > diagnostics.json\n  docker dso doctor --fix\n  docker dso doctor --test",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if yes && !fix {
				return usageError("--yes goes with --fix")
			}
			h := a.host()
			report := doctor.Run(h.Gather(cmd.Context()))
			if fix {
				repaired, err := a.repair(cmd.Context(), h, report, yes)
				if err != nil {
					return err
				}
				if repaired {
					report = doctor.Run(h.Gather(cmd.Context()))
				}
			}
			if test {
				report = doctor.Sum(report.Time, append(report.Checks, h.Trial(cmd.Context())))
			}
			if done, err := a.print(report); done {
				return errors.Join(err, failedReport(report))
			}
			a.printReport(report, fix)
			return failedReport(report)
		},
	})
	cmd.Flags().BoolVar(&fix, "fix", false, "repair what is safe to repair, and ask about the rest")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --fix: do not ask")
	cmd.Flags().BoolVar(&test, "test", false, "change a container of its own over, once")
	return cmd
}

func failedReport(r doctor.Report) error {
	if r.Overall == doctor.Fail {
		return &coded{errors.New(""), ExitError}
	}
	return nil
}

// repair does what the findings offer, and reports whether anything was done. What is
// said goes beside the report: that may be JSON.
func (a *app) repair(ctx context.Context, h host.Host, report doctor.Report, yes bool) (done bool, err error) {
	for _, c := range report.Checks {
		for _, f := range c.Fixes {
			if !f.Safe && !yes {
				if !terminal(a.in) {
					_, _ = fmt.Fprintf(a.err, "%s: not done, nobody is here to be asked: %s (--yes does it)\n", c.ID, f.What)
					continue
				}
				agreed, err := a.agreed("the host", c.ID+": "+f.What+"?")
				if err != nil {
					return done, err
				}
				if !agreed {
					continue
				}
			}
			if err := h.Apply(ctx, f); err != nil {
				_, _ = fmt.Fprintf(a.err, "%s: %s: %v\n", c.ID, f.What, err)
				continue
			}
			done = true
			_, _ = fmt.Fprintf(a.err, "%s: done: %s\n", c.ID, f.What)
		}
	}
	return done, nil
}

var statusColours = map[doctor.Status]colour{doctor.Pass: green, doctor.Warn: yellow, doctor.Fail: red}

func (a *app) printReport(r doctor.Report, fixed bool) {
	offers := 0
	for _, c := range r.Checks {
		_, _ = fmt.Fprintf(a.out, "%s %s  %s: %s\n", a.paint(statusColours[c.Status], string(c.Status)), c.ID, c.Name, indented(c.Detail))
		if c.Status != doctor.Warn && c.Status != doctor.Fail {
			continue
		}
		_, _ = fmt.Fprintf(a.out, "       why   %s\n", c.RootCause)
		for _, step := range c.Recovery {
			_, _ = fmt.Fprintf(a.out, "       do    %s\n", step)
		}
		offers += len(c.Fixes)
	}
	s := r.Summary
	_, _ = fmt.Fprintf(a.out, "\n%s: %d checks, %d passed, %d warnings, %d failures, %d without a judgement\n",
		a.paint(statusColours[r.Overall], string(r.Overall)), s.Total, s.Passed, s.Warnings, s.Failures, s.Infos)
	if offers > 0 && !fixed {
		_, _ = fmt.Fprintf(a.out, "docker dso doctor --fix can do %s of this\n", plural(offers, "thing"))
	}
}

func indented(detail string) string { return strings.ReplaceAll(detail, "\n", "\n       ") }

// trialCommand is what runs in the container of doctor --test.
func (a *app) trialCommand() *cobra.Command {
	return &cobra.Command{
		Use: host.TrialCommand + " [check]", Hidden: true, Args: rangeArgs(0, 1), Short: "Hold the place of a container for doctor --test",
		RunE: func(cmd *cobra.Command, args []string) error {
			if value := os.Getenv(host.TrialVariable); value == "" || strings.Contains(value, "://") {
				return errors.New("the secret did not reach this process")
			}
			if len(args) == 1 {
				return nil
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			<-ctx.Done()
			return nil
		},
	}
}
