package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// syncOptions say what is brought up to date, and for how long that is waited for.
type syncOptions struct {
	secret  string
	timeout time.Duration
	follow  followOptions
}

func (o *syncOptions) flags(cmd *cobra.Command) {
	lengthVar(cmd.Flags(), &o.timeout, "timeout", "how long to wait; what has begun goes on (default: until it is done)")
	o.follow.flags(cmd)
}

func (a *app) syncCommand() *cobra.Command {
	var o syncOptions
	cmd := &cobra.Command{
		Use: "sync", Short: "Ask the stores now, and change over what has other versions", Args: noArgs,
		Long: `Ask the stores of all secrets in use now, not when the next interval ends, and change over
the containers that have other versions. What is up to date stays as it is, and so does what is
pinned, by a person or because these versions failed before, or held back: docker dso rotate
changes that too.`,
		Example: "  docker dso sync\n  docker dso sync --secret app/db_password --timeout 1m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			results, err := a.sync(cmd.Context(), o, "sync")
			if err != nil {
				return err
			}
			if done, err := a.print(results); done {
				return errors.Join(err, failed(results))
			}
			return a.synced(results, o)
		},
	}
	nameVar(cmd.Flags(), &o.secret, "secret", "only this `secret`, and what uses it")
	completeOption(cmd, "secret", a.completeSecrets)
	o.flags(cmd)
	return a.jsonFlag(cmd)
}

// sync has the agent bring up to date what the options name: one secret's containers, or all.
func (a *app) sync(ctx context.Context, o syncOptions, cause string) ([]wire.RotateResult, error) {
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	req := wire.RotateRequest{NoWait: o.follow.noWait, Cause: cause}
	if o.secret != "" {
		var err error
		if req.Secret, req.Project, err = secretNamed(ctx, o.secret); err != nil {
			return nil, err
		}
	}
	results, err := a.agent().Rotate(ctx, req, a.steps())
	if errors.Is(err, context.DeadlineExceeded) {
		err = withHint(fmt.Errorf("not done within %s; what has begun goes on", o.timeout), "docker dso rotations shows how it goes")
	}
	return results, err
}

// synced prints how it ended.
func (a *app) synced(results []wire.RotateResult, o syncOptions) error {
	switch {
	case o.follow.noWait:
		_, err := fmt.Fprintln(a.out, "begun; docker dso rotations shows how it goes")
		return err
	case len(results) == 0 && o.secret == "":
		_, err := fmt.Fprintln(a.out, "no running container uses references")
		return err
	}
	return a.report(results)
}

// applyReport is the JSON of docker dso apply.
type applyReport struct {
	Plan    []wire.ContainerStatus `json:"plan"`
	Results []wire.RotateResult    `json:"results,omitempty"`
}

func (a *app) applyCommand() *cobra.Command {
	var o syncOptions
	var dryRun, yes, force bool
	cmd := &cobra.Command{
		Use: "apply", Short: "Show what is not up to date and, after a question, bring it up to date", Args: noArgs,
		Long: `Show the containers that do not have the current versions and what would be done with each,
and, after a question, do it: as docker dso sync, which asks no question. The agent does the same
by itself when it sees a change; this is for not waiting, and for seeing it before.

It goes by the versions that the agent knows of: with nothing to bring up to date it is done. With
--yes the stores are asked all the same.`,
		Example: "  docker dso apply --dry-run\n  docker dso apply --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			report := applyReport{Plan: slices.DeleteFunc(st.Containers, func(c wire.ContainerStatus) bool { return c.UpToDate })}
			if !a.asJSON {
				if err := a.printToApply(report.Plan); err != nil {
					return err
				}
			}
			if dryRun || len(report.Plan) == 0 && !yes && !force {
				_, err := a.print(report)
				return err
			}
			if !yes && !force {
				if agreed, err := a.agreed("containers", "Ask the stores, and bring up to date what is not?"); err != nil || !agreed {
					return err
				}
			}
			if report.Results, err = a.sync(cmd.Context(), o, "apply"); err != nil {
				return err
			}
			if done, err := a.print(report); done {
				return errors.Join(err, failed(report.Results))
			}
			return a.synced(report.Results, o)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show it and change nothing")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "the same as --yes")
	_ = cmd.Flags().MarkHidden("force") // the word of DSO 3.5
	o.flags(cmd)
	return a.jsonFlag(cmd)
}

// printToApply prints what is not up to date.
func (a *app) printToApply(rows []wire.ContainerStatus) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.out, "every container has the versions that the agent knows of; docker dso sync asks the stores for newer ones")
		return err
	}
	return a.planTable(rows)
}
