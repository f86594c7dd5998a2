package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func (a *app) whoUsesCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "who-uses SECRET", Short: "List the containers that use a secret", Args: exactArgs(1), ValidArgsFunction: a.completeSecrets,
		Long: `List the containers, running or not, that use a secret, with the variables that refer
to it and the version that they have. A SECRET without a slash belongs to the Compose
project of the working directory.`,
		Example: "  docker dso who-uses app/db_password\n  docker dso who-uses vault/kv/app/db --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, project, err := secretNamed(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var users wire.SecretUsers
			if err := a.agent().Call(cmd.Context(), "POST", "/v1/secret/users", wire.NameRequest{Name: name, Project: project}, &users); err != nil {
				return err
			}
			if done, err := a.print(users); done {
				return err
			}
			if len(users.Users) == 0 {
				_, err := fmt.Fprintf(a.out, "no container uses %s\n", users.Secret)
				return err
			}
			return a.table("CONTAINER\tSTATE\tVARIABLES\tVERSION\t", len(users.Users), func(i int) string {
				u := users.Users[i]
				note := ""
				if !u.UpToDate {
					note = "the current one is " + versionText(users.Version)
				}
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", u.Container, u.State, strings.Join(u.Variables, ", "), versionText(u.Has), note)
			})
		},
	})
}

// detail asks for one container.
func (a *app) detail(ctx context.Context, name string) (d wire.ContainerDetail, err error) {
	return d, a.agent().Call(ctx, "POST", "/v1/container", wire.ContainerRequest{Container: name}, &d)
}

func (a *app) inspectCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "inspect CONTAINER", Short: "Show the references of a container, their versions and where each value lies", Args: exactArgs(1),
		ValidArgsFunction: a.completeContainers,
		Long: `Show the references of a container, the versions that it has and those that it should
have, and where each value lies: in the variable, or in which file. It never shows a value.`,
		Example: "  docker dso inspect shop-web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.detail(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if done, err := a.print(d); done {
				return err
			}
			return a.printDetail(d)
		},
	})
}

func (a *app) printDetail(d wire.ContainerDetail) error {
	_, _ = fmt.Fprintf(a.out, "%s (%s), %s, image %s, runtime %s\n", d.Name, d.ID, stateText(d.ContainerStatus), d.Image, d.Runtime)
	if !d.Given.IsZero() {
		_, _ = fmt.Fprintf(a.out, "values given %s\n", ago(d.Given))
	}
	if d.Strategy != "" {
		_, _ = fmt.Fprintf(a.out, "changed over by %s: %s\n", d.Strategy, strings.Join(d.Reasons, "; "))
	}
	if note := noteText(d.ContainerStatus); note != "" {
		_, _ = fmt.Fprintln(a.out, note)
	}
	_, _ = fmt.Fprintln(a.out)
	return a.table("VARIABLE\tREFERENCE\tSECRET\tVERSION\tLIES IN\t", len(d.References), func(i int) string {
		r := d.References[i]
		version := versionText(r.Has)
		if r.Wants != "" && r.Has != r.Wants {
			version += " -> " + r.Wants
		}
		note := ""
		if r.Target {
			note = "given by dso.yaml"
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", r.Variable, r.Reference, r.Secret, version, cmp.Or(r.File, "the variable"), note)
	})
}

func (a *app) planCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "plan [CONTAINER]", Short: "Show how each container would be changed over, and why so", Args: rangeArgs(0, 1), ValidArgsFunction: a.completeContainers,
		Long: `Show what a change would do to each container: the strategy and why, what it would change
now, and how long that takes by the rotations that were.`,
		Example: "  docker dso plan\n  docker dso plan shop-web-1 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			rows := st.Containers
			if len(args) == 1 {
				rows = slices.DeleteFunc(rows, func(c wire.ContainerStatus) bool { return c.Name != args[0] && c.ID != args[0] })
				if len(rows) == 0 {
					return noContainer(args[0])
				}
			}
			if done, err := a.print(rows); done {
				return err
			}
			return a.planTable(rows)
		},
	})
}

// planTable prints what would be done with containers.
func (a *app) planTable(rows []wire.ContainerStatus) error {
	return a.table("CONTAINER\tSTRATEGY\tNOW\tTAKES\tBECAUSE", len(rows), func(i int) string {
		c := rows[i]
		because := strings.Join(c.Reasons, "; ")
		if c.Error != "" {
			because = c.Error
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", c.Name, c.Strategy, nowText(c), takesText(c.Predicted), because)
	})
}

func noContainer(name string) error {
	return &coded{withHint(fmt.Errorf("no container that uses references is named %q", name), "docker dso status lists those that do"), ExitNotFound}
}

// nowText says what there is to do with a container.
func nowText(c wire.ContainerStatus) string {
	switch {
	case c.Rotation != nil:
		return "changing over"
	case c.State != "running":
		return "nothing: it does not run"
	case c.UpToDate:
		return "nothing"
	case c.PinnedBy() != "":
		return "nothing: pinned by " + c.Pin.By
	case c.Pin != nil && len(c.Pin.Failed) > 0:
		return "nothing: pinned"
	case !c.HeldUntil.IsZero():
		return "waits until " + minute(c.HeldUntil)
	case c.Held != "":
		return "nothing: " + c.Held
	case c.Error != "": // which is told beside it
		return "nothing yet"
	}
	return "change over"
}

func takesText(p *wire.Prediction) string {
	if p == nil {
		return "not known yet"
	}
	return fmt.Sprintf("%.1fs (%s, %s)", p.Seconds, p.Basis, plural(p.Samples, "rotation"))
}

func (a *app) historyCommand() *cobra.Command {
	var last int
	cmd := a.jsonFlag(&cobra.Command{
		Use: "history [CONTAINER|SECRET]", Short: "List the rotations that were, with the versions they changed", Args: rangeArgs(0, 1),
		ValidArgsFunction: a.completeContainersAndSecrets,
		Long: `List the rotations that the journal remembers, the newest first: what they changed from and
to, how they ended and how long they took. docker dso audit has what else was done.`,
		Example: "  docker dso history\n  docker dso history shop-web-1 --last 5\n  docker dso history shop/db_password --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := a.rotations(cmd)
			if err != nil {
				return err
			}
			slices.Reverse(rows)
			rows = slices.DeleteFunc(rows, func(r wire.Rotation) bool { return len(args) == 1 && !aboutWord(r, args[0]) })
			if len(rows) == 0 && len(args) == 1 {
				if err := a.known(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			if last > 0 && len(rows) > last {
				rows = rows[:last]
			}
			if done, err := a.print(rows); done {
				return err
			}
			if len(rows) == 0 && len(args) == 1 {
				_, err = fmt.Fprintf(a.out, "no rotation of %s is remembered\n", args[0])
				return err
			}
			return a.table("STARTED\tCONTAINER\tCHANGED\tSTRATEGY\tENDED\tTOOK\tCAUSE", len(rows), func(i int) string {
				r := rows[i]
				ended := strings.ReplaceAll(cmp.Or(r.Outcome, r.Status), "_", " ")
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%.1fs\t%s", minute(r.Started), r.Container, changeText(r), r.Strategy, ended, r.Updated.Sub(r.Started).Seconds(), causeOf(r))
			})
		},
	})
	countVar(cmd.Flags(), &last, "last", "n", "only so many of the newest")
	return cmd
}

// known is an error when there is neither a container nor a secret of a name.
func (a *app) known(ctx context.Context, word string) error {
	st, err := a.status(ctx)
	if err != nil {
		return err
	}
	ids := []string{}
	for _, c := range st.Containers {
		if c.Name == word || c.ID == word {
			return nil
		}
	}
	for _, s := range st.Secrets {
		ids = append(ids, s.Secret)
	}
	for _, name := range a.vaultNames(ctx) {
		ids = append(ids, secret.ID{Provider: secret.DefaultProvider, Path: name}.String())
	}
	if slices.ContainsFunc(ids, func(id string) bool { return means(word, id) }) {
		return nil
	}
	return &coded{withHint(fmt.Errorf("no container and no secret is named %q", word), "docker dso status lists what is in use"), ExitNotFound}
}

// aboutWord reports whether a rotation is about what a person typed.
func aboutWord(r wire.Rotation, word string) bool {
	if r.Container == word || r.ID == word {
		return true
	}
	for id := range r.To {
		if means(word, id) {
			return true
		}
	}
	return false
}

// changeText shows the versions that a rotation changed.
func changeText(r wire.Rotation) string {
	var parts []string
	for id, to := range r.To {
		if from := r.From[id]; from != to {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", id, versionText(from), to))
		}
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func (a *app) diffCommand() *cobra.Command {
	var exitCode bool
	cmd := a.jsonFlag(&cobra.Command{
		Use: "diff [CONTAINER]", Short: "Show where what runs differs from what is specified", Args: rangeArgs(0, 1), ValidArgsFunction: a.completeContainers,
		Long: `Show where what runs differs from what is specified: versions that are not the current
ones, and, in a directory with a Compose file, references that a container was not made
with, services that do not run, and containers that another runtime started.`,
		Example: "  docker dso diff\n  docker dso diff shop-web-1 --exit-code",
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := a.differences(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			if done, err := a.print(diffReport{SchemaVersion: wire.JSONVersion, Differences: rows}); done {
				return errors.Join(err, differs(exitCode, rows))
			}
			if len(rows) == 0 {
				_, err := fmt.Fprintln(a.out, "no difference: what runs is what is specified")
				return err
			}
			err = a.table("WHAT\tSPECIFIED\tRUNS\t", len(rows), func(i int) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s", rows[i].What, cmp.Or(rows[i].Specified, "-"), cmp.Or(rows[i].Runs, "-"), rows[i].Note)
			})
			return errors.Join(err, differs(exitCode, rows))
		},
	})
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 7 when there are differences")
	return cmd
}

func differs(tell bool, rows []difference) error {
	if tell && len(rows) > 0 {
		return &coded{errors.New(""), ExitUnhealthy}
	}
	return nil
}
