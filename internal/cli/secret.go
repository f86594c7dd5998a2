package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func (a *app) initCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "init", Short: "Make the local encrypted vault", Args: noArgs,
		Example: "  docker dso init",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.secrets()
			if err != nil {
				return err
			}
			info, err := s.init(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := a.print(info); done {
				return err
			}
			if !info.Created {
				_, err = fmt.Fprintf(a.out, "The vault in %s exists; nothing was changed.\n", info.Dir)
				return err
			}
			_, err = fmt.Fprintf(a.out, "Made a vault in %s. Keep a copy of %s/key.txt somewhere safe: without it nothing in the vault can be read.\n", info.Dir, info.Dir)
			return err
		},
	})
}

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Store and read secrets of the local vault", Args: noSuchCommand, Example: "  docker dso secret set app/db_password\n  docker dso secret list\n  docker dso secret rollback app/db_password",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.secretSet(), a.secretGet(), a.secretList(), a.secretDelete(), a.secretHistory(), a.secretRollback())
	return cmd
}

// secretNamed checks the name of a secret that was typed, and returns it with the Compose
// project of the working directory when it has no namespace. It may be a whole reference, or
// provider:path, as tables show it.
func secretNamed(ctx context.Context, typed string) (name, project string, err error) {
	path, err := secret.NamePath(typed)
	if err != nil {
		return "", "", err
	}
	if !strings.Contains(strings.TrimPrefix(path, secret.DefaultProvider+"/"), "/") {
		project, err = compose.ProjectName(ctx, compose.Options{})
	}
	return typed, project, err
}

// means reports whether what was typed is the name of a secret, whose id has everything. It
// need not say the provider.
func means(typed, id string) bool {
	path, err := secret.NamePath(typed)
	provider, rest, _ := strings.Cut(id, ":")
	return err == nil && (path == rest || path == provider+"/"+rest)
}

// named returns the vault and what a typed name asks it for.
func (a *app) named(ctx context.Context, typed string) (secrets, wire.NameRequest, error) {
	s, err := a.secrets()
	if err != nil {
		return s, wire.NameRequest{}, err
	}
	name, project, err := secretNamed(ctx, typed)
	return s, wire.NameRequest{Name: name, Project: project}, err
}

func (a *app) secretSet() *cobra.Command {
	var src valueSource
	var follow followOptions
	cmd := &cobra.Command{
		Use: "set NAME", ValidArgsFunction: a.completeVault, Short: "Store a new version of a secret and rotate whatever uses it", Args: exactArgs(1),
		Long: `Store a new version of a secret and rotate whatever uses it.

The value comes from a prompt without echo, from standard input, or from a file:
never from an argument, which every user of the host could see. It is stored byte
by byte as it comes; only what is typed at the prompt ends before the Enter key.

A NAME without a slash belongs to the Compose project of the working directory.`,
		Example: `  docker dso secret set db_password
  openssl rand -hex 24 | tr -d '\n' | docker dso secret set app/db_password
  docker dso secret set tls_key --file server.key --no-wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, name, err := a.named(ctx, args[0])
			if err != nil {
				return err
			}
			value, err := src.read(a, args[0])
			if err != nil {
				return err
			}
			resp, err := s.set(ctx, wire.SetRequest{Name: name.Name, Project: name.Project, Value: value, AllowEmpty: src.allowEmpty})
			if err != nil {
				return err
			}
			what := fmt.Sprintf("stored %s version %s", resp.Name, resp.Version)
			if !resp.Changed {
				what = fmt.Sprintf("%s already has this value: version %s", resp.Name, resp.Version)
			}
			return a.follow(ctx, resp, what, "secret set", follow)
		},
	}
	src.flags(cmd)
	follow.flags(cmd)
	return a.jsonFlag(cmd)
}

func (a *app) secretGet() *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use: "get NAME", ValidArgsFunction: a.completeVault, Short: "Print the value of a secret, byte by byte", Args: exactArgs(1),
		Example: "  docker dso secret get app/db_password",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, name, err := a.named(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			name.Version = version
			resp, err := s.get(cmd.Context(), name)
			if err != nil {
				return err
			}
			if done, err := a.print(resp); done {
				return err
			}
			_, err = a.out.Write(resp.Value)
			return err
		},
	}
	nameVar(cmd.Flags(), &version, "version", "an older version (default: the current one)")
	completeOption(cmd, "version", a.completeVersions)
	return a.jsonFlag(cmd)
}

func (a *app) secretList() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the secrets, never their values", Example: "  docker dso secret list", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.secrets()
			if err != nil {
				return err
			}
			infos, err := s.list(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := a.print(infos); done {
				return err
			}
			return a.table("NAME\tVERSION\tCREATED\tKEPT\tSIZE", len(infos), func(i int) string {
				row := infos[i]
				return fmt.Sprintf("%s\t%s\t%s\t%d\t%s", row.Name, row.Version, ago(row.Created), row.Versions, units.BytesSize(float64(row.Size)))
			})
		},
	})
}

// deleteReport is the JSON of docker dso secret delete.
type deleteReport struct {
	Deleted string `json:"deleted"` // the name, as it was typed
}

func (a *app) secretDelete() *cobra.Command {
	var force bool
	cmd := a.jsonFlag(&cobra.Command{
		Use: "delete NAME", ValidArgsFunction: a.completeVault, Aliases: []string{"rm"}, Short: "Delete a secret with all its versions", Example: "  docker dso secret delete app/db_password", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, name, err := a.named(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			name.Force = force
			if err := s.delete(cmd.Context(), name); err != nil {
				return err
			}
			if done, err := a.print(deleteReport{Deleted: args[0]}); done {
				return err
			}
			_, err = fmt.Fprintf(a.out, "deleted %s\n", args[0])
			return err
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "delete it although containers use it")
	return cmd
}

func (a *app) secretHistory() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "history NAME", ValidArgsFunction: a.completeVault, Short: "List the versions of a secret", Example: "  docker dso secret history app/db_password", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, name, err := a.named(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			versions, err := s.history(cmd.Context(), name)
			if err != nil {
				return err
			}
			if done, err := a.print(versions); done {
				return err
			}
			return a.table("VERSION\tCREATED\tBY\tSIZE\t", len(versions), func(i int) string {
				v := versions[i]
				note := ""
				switch {
				case v.Deleted:
					note = "deleted"
				case v.Current:
					note = "current"
				}
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", v.Version, ago(v.Created), v.Author, units.BytesSize(float64(v.Size)), note)
			})
		},
	})
}

func (a *app) secretRollback() *cobra.Command {
	var follow followOptions
	cmd := &cobra.Command{
		Use: "rollback NAME [VERSION]", ValidArgsFunction: a.completeVaultAndVersions, Short: "Make an older value current again, as a new version", Args: rangeArgs(1, 2),
		Example: "  docker dso secret rollback app/db_password\n  docker dso secret rollback app/db_password 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, name, err := a.named(ctx, args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 {
				name.Version = args[1]
			}
			resp, err := s.rollback(ctx, name)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("%s is back at its older value, as version %s", resp.Name, resp.Version)
			if !resp.Changed {
				what = fmt.Sprintf("%s already has that value: version %s", resp.Name, resp.Version)
			}
			return a.follow(ctx, resp, what, "secret rollback", follow)
		},
	}
	follow.flags(cmd)
	return a.jsonFlag(cmd)
}

// table prints rows under a heading, aligned.
func (a *app) table(heading string, n int, row func(int) string) error {
	w := tabwriter.NewWriter(a.out, 0, 4, 3, ' ', 0)
	_, err := fmt.Fprintln(w, heading)
	for i := range n {
		_, rowErr := fmt.Fprintln(w, row(i))
		err = errors.Join(err, rowErr)
	}
	return errors.Join(err, w.Flush())
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }
