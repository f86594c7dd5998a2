package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) rotations(cmd *cobra.Command) ([]wire.Rotation, error) {
	var rows []wire.Rotation
	return rows, a.agent().Call(cmd.Context(), "GET", "/v1/rotations", nil, &rows)
}

func (a *app) rotationsCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "rotations", Short: "List the rotations that are pending and those that the journal remembers", Example: "  docker dso rotations\n  docker dso rotations --json | jq '.[] | select(.pending)'", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.rotations(cmd)
			if err != nil {
				return err
			}
			if done, err := a.print(rows); done {
				return err
			}
			slices.SortStableFunc(rows, func(x, y wire.Rotation) int { return rank(x) - rank(y) })
			return a.table("CONTAINER\tSECRET\tSTRATEGY\tSTATUS\tSTEP\tOUTCOME\tSTARTED\tTOOK\tCAUSE", len(rows), func(i int) string {
				r := rows[i]
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1fs\t%s", r.Container, r.Secret, r.Strategy, r.Status, stepOf(r),
					r.Outcome, ago(r.Started), r.Updated.Sub(r.Started).Seconds(), causeOf(r))
			})
		},
	})
}

// rank puts first what is not over.
func rank(r wire.Rotation) int {
	if r.Todo != "" {
		return 0
	}
	return 1
}

// stepOf is the step that a rotation is at, or is stuck at.
func stepOf(r wire.Rotation) string {
	step := r.Step + r.StuckStep
	if step != "" && r.Phase != "forward" {
		return r.Phase + ": " + step
	}
	return step
}

func causeOf(r wire.Rotation) string {
	if r.Error != "" {
		return r.Cause + "; " + r.Error
	}
	return r.Cause
}

func (a *app) recoverCommand() *cobra.Command {
	var dryRun, adopt, yes bool
	var mark string
	cmd := &cobra.Command{
		Use: "recover [KEY]", ValidArgsFunction: a.completeOpen, Short: "Carry on at once the rotations that are not finished", Args: rangeArgs(0, 1),
		Long: `Show the rotations that are not finished, what is done with each and why, and do it:
what is pending is carried on at once, what needed a person is tried again.

The agent carries on by itself what is pending, at its start and whenever the engine
is back; this command is for not waiting, and for what it had given up.

KEY is a rotation's key in the journal, its id, or the name of its container.

With --adopt-legacy it is about containers called <name>_old_<time>,
<name>_dso_backup_<time> or <name>_dso_new_<time> that an older version left behind, and
its lock files. What is clear is done, after a question; the rest is shown with the
commands to run. Volumes are kept.`,
		Example: "  docker dso recover --dry-run\n  docker dso recover --adopt-legacy --dry-run\n  docker dso recover shop-web-1\n  docker dso recover --mark-recovered local:shop/db:3f5c...",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case yes && !adopt:
				return usageError("--yes goes with --adopt-legacy")
			case adopt && (len(args) > 0 || cmd.Flags().Changed("mark-recovered")):
				return usageError("--adopt-legacy is about leftovers of an older version, and no rotation goes with it")
			case adopt:
				return a.adoptLegacy(cmd, dryRun, yes)
			}
			if cmd.Flags().Changed("mark-recovered") {
				if dryRun || len(args) > 0 {
					return usageError("--mark-recovered takes its own key, and nothing else goes with it")
				}
				return a.markRecovered(cmd, mark)
			}
			return a.recover(cmd, strings.Join(args, ""), dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&adopt, "adopt-legacy", false, "deal with what an older version left behind, instead of rotations")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --adopt-legacy: do not ask")
	nameVar(cmd.Flags(), &mark, "mark-recovered", "end the rotation with this `KEY`: it is over because you say so; no container is touched")
	return a.jsonFlag(cmd)
}

// recoverReport is the JSON of docker dso recover.
type recoverReport struct {
	Rotations []wire.Rotation     `json:"rotations"` // as they were before
	Results   []wire.RotateResult `json:"results"`   // null after --dry-run
}

func (a *app) recover(cmd *cobra.Command, key string, dryRun bool) error {
	rows, err := a.rotations(cmd)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r wire.Rotation) bool {
		return r.Todo == "" || key != "" && key != r.Key && key != r.ID && key != r.Container
	})
	if len(rows) == 0 && key != "" {
		return &coded{withHint(fmt.Errorf("no rotation to recover is named %s", key), "docker dso rotations lists them"), ExitNotFound}
	}
	if !a.asJSON {
		a.printTodo(rows)
	}
	if dryRun || len(rows) == 0 {
		_, err := a.print(recoverReport{Rotations: rows})
		return err
	}
	results, err := a.agent().Recover(cmd.Context(), wire.RecoverRequest{Key: key}, a.steps())
	if err != nil {
		return err
	}
	if done, err := a.print(recoverReport{rows, results}); done {
		return errors.Join(err, failed(unrecovered(results)))
	}
	if err := a.report(results); len(unrecovered(results)) > 0 {
		return err
	}
	return nil
}

// unrecovered leaves out what ended well: a rotation that is rolled back, or whose
// container is gone, is recovered.
func unrecovered(results []wire.RotateResult) []wire.RotateResult {
	return slices.DeleteFunc(slices.Clone(results), func(r wire.RotateResult) bool { return r.Outcome != "" && r.Outcome != "failed" })
}

func (a *app) printTodo(rows []wire.Rotation) {
	if len(rows) == 0 {
		_, _ = fmt.Fprintln(a.out, "nothing to recover: every rotation is finished")
	}
	for _, r := range rows {
		_, _ = fmt.Fprintf(a.out, "%s: %s, %s, since %s\n", r.Container, r.Strategy, r.Status, ago(r.Started))
		_, _ = fmt.Fprintf(a.out, "  key   %s\n", r.Key)
		_, _ = fmt.Fprintf(a.out, "  step  %s\n", stepOf(r))
		_, _ = fmt.Fprintf(a.out, "  todo  %s\n", r.Todo)
		_, _ = fmt.Fprintf(a.out, "  why   %s\n", r.Why)
	}
}

func (a *app) markRecovered(cmd *cobra.Command, key string) error {
	var r wire.Rotation
	if err := a.agent().Call(cmd.Context(), "POST", "/v1/recover/mark", wire.RecoverRequest{Key: key}, &r); err != nil {
		return err
	}
	if done, err := a.print(r); done {
		return err
	}
	_, err := fmt.Fprintf(a.out, "%s: the rotation is over (%s); no container was touched\n", r.Container, r.Key)
	return err
}

func (a *app) locksCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "locks", Short: "List the locks of the secrets and of the agent, who holds them and since when", Example: "  docker dso locks", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rows []wire.Lock
			if err := a.agent().Call(cmd.Context(), "GET", "/v1/locks", nil, &rows); err != nil {
				return err
			}
			if done, err := a.print(rows); done {
				return err
			}
			if !slices.ContainsFunc(rows, func(r wire.Lock) bool { return r.Agent == "" }) {
				_, _ = fmt.Fprintln(a.out, "no locks of secrets: nothing is being rotated")
			}
			return a.table("LOCK OF\tPID\tAGE\tSTATE\tFILE", len(rows), func(i int) string {
				r := rows[i]
				of := r.Secret
				if r.Agent != "" {
					of = "the agent: " + r.Agent
				}
				return fmt.Sprintf("%s\t%d\t%s\t%s\t%s", of, r.PID, r.Age, lockState(r), r.Path)
			})
		},
	})
}

// lockState says what a lock file means. Only the kernel's word counts.
func lockState(r wire.Lock) string {
	switch {
	case r.Held:
		return "held"
	case r.Note != "":
		return "free (" + r.Note + ")"
	case r.BootID != "" && !r.SameBoot:
		return "free (left by an earlier boot)"
	case !r.Alive:
		return "free (its holder is dead)"
	}
	return "free"
}
