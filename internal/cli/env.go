package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/migrate"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func (a *app) envCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "env", Short: "Store what environment files hold", Args: noSuchCommand, Example: "  docker dso env import .env --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.envImport())
	return cmd
}

// importReport is the JSON of docker dso env import.
type importReport struct {
	SchemaVersion int             `json:"schema_version"`
	File          string          `json:"file"`
	Secrets       []importedValue `json:"secrets"`
	Skipped       []string        `json:"skipped"` // variables that do not look like a secret
}

type importedValue struct {
	Variable string `json:"variable"`
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"` // empty after --dry-run
	Changed  bool   `json:"changed"`
	Why      string `json:"why"`
}

func (a *app) envImport() *cobra.Command {
	var all, dryRun bool
	var namespace string
	cmd := a.jsonFlag(&cobra.Command{
		Use: "import FILE", Short: "Store the secrets of an environment file in the vault", Args: exactArgs(1),
		Long: `Store the variables of an environment file that look like secrets in the vault, each as a
secret named like it: DB_PASSWORD as NAMESPACE/db_password. The file is read as Compose
reads it and is not changed. With --all every variable is stored.`,
		Example: "  docker dso env import .env --dry-run\n  docker dso env import .env --namespace shop --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			if namespace == "" {
				var err error
				if namespace, err = compose.ProjectName(cmd.Context(), compose.Options{}); err != nil {
					return err
				}
				namespace = cmp.Or(namespace, secret.DefaultNamespace)
			}
			return a.importEnv(cmd.Context(), args[0], namespace, all, dryRun)
		},
	})
	cmd.Flags().BoolVar(&all, "all", false, "store every variable")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be stored")
	cmd.Flags().StringVar(&namespace, "namespace", "", "`namespace` of the secrets (default: the Compose project here)")
	return cmd
}

func (a *app) importEnv(ctx context.Context, path, namespace string, all, dryRun bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found, skipped, err := migrate.EnvSecrets(path, text, namespace, all)
	if err != nil {
		return err
	}
	s, err := a.secrets()
	if err != nil {
		return err
	}
	report := importReport{SchemaVersion: wire.JSONVersion, File: path, Secrets: []importedValue{}, Skipped: append([]string{}, skipped...)}
	for _, f := range found {
		row := importedValue{Variable: f.From[0], Name: f.Name, Why: f.Why}
		if !dryRun {
			resp, err := s.set(ctx, wire.SetRequest{Name: f.Name, Value: f.Value.Reveal(), AllowEmpty: true})
			if err != nil {
				return fmt.Errorf("store %s: %w", f.Name, err)
			}
			row.Version, row.Changed = resp.Version, resp.Changed
		}
		report.Secrets = append(report.Secrets, row)
	}
	if done, err := a.print(report); done {
		return err
	}
	for _, r := range report.Secrets {
		did := "stored " + r.Name + " version " + r.Version
		switch {
		case dryRun:
			did = "would store " + r.Name
		case !r.Changed:
			did = r.Name + " already has this value: version " + r.Version
		}
		_, _ = fmt.Fprintf(a.out, "%s: %s (%s)\n", r.Variable, did, r.Why)
	}
	if len(skipped) > 0 {
		_, _ = fmt.Fprintf(a.out, "not stored, they do not look like secrets (--all stores them): %s\n", strings.Join(skipped, ", "))
	}
	return nil
}

func (a *app) exportCommand() *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use: "export [SECRET...]", Short: "Write values in the clear to a file that only you can read", ValidArgsFunction: a.completeVault,
		Long: `Write the values of secrets of the local vault, or of all of the Compose project here, in
the clear to a file with mode 0600, for a move or a backup of another kind. It warns, and the
audit log says who did it. An existing file is not overwritten.`,
		Example: "  docker dso export app/db_password --output app.env\n  docker dso export --format json --output shop.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				return withHint(usageError("it must be said where to"), "--output FILE; values are not written to a terminal")
			}
			if format != "env" && format != "json" {
				return usageError("--format is env or json")
			}
			return a.export(cmd.Context(), args, output, format)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` to write; it must not be there yet")
	cmd.Flags().StringVar(&format, "format", "env", "env: NAME='value'; json: an object of names and values, and {\"base64\": …} for a value that is not text")
	return cmd
}

func (a *app) export(ctx context.Context, names []string, output, format string) error {
	s, err := a.secrets()
	if err != nil {
		return err
	}
	project, err := compose.ProjectName(ctx, compose.Options{})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if project == "" {
			return withHint(usageError("no Compose project is here, and no secret is named"), "docker dso secret list shows their names")
		}
		infos, err := s.list(ctx)
		if err != nil {
			return err
		}
		for _, name := range namesOf(infos) {
			if strings.HasPrefix(name, project+"/") {
				names = append(names, name)
			}
		}
	}
	values := map[string]string{}
	for _, name := range names {
		resp, err := s.get(ctx, wire.NameRequest{Name: name, Project: project})
		if err != nil {
			return err
		}
		values[resp.Name] = string(resp.Value)
	}
	write := migrate.FormatEnv
	if format == "json" {
		write = migrate.FormatJSON
	}
	text, err := write(values)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withHint(err, "--output names another file")
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(output))
	}
	_, _ = fmt.Fprintf(a.err, "dso: warning: %s holds %s in the clear; remove it when it is not needed: shred -u %s\n", output, plural(len(values), "value"), output)
	return nil
}

// fetchReport is the JSON of docker dso fetch.
type fetchReport struct {
	SchemaVersion int    `json:"schema_version"`
	Secret        string `json:"secret"`
	Version       string `json:"version"`
}

// fetchedValue is the JSON of docker dso fetch --value.
type fetchedValue struct {
	fetchReport
	Value []byte `json:"value"`
}

// referenceTo is the reference to a secret whose name was checked.
func referenceTo(name string) string {
	path, _ := secret.NamePath(name)
	return "dso://" + path
}

func (a *app) fetchCommand() *cobra.Command {
	var value bool
	var version string
	cmd := a.jsonFlag(&cobra.Command{
		Use: "fetch SECRET", Short: "Ask a secret's store for it now", Args: exactArgs(1), ValidArgsFunction: a.completeSecrets,
		Long: `Ask a secret's store, the local vault or any provider of dso.yaml, for its current version
now: whether the agent can read it at all. With --value root is shown the value, byte by
byte; the audit log says so.`,
		Example: "  docker dso fetch vault/kv/app/db\n  docker dso fetch app/db_password --value",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, project, err := secretNamed(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if value {
				resp, err := a.fetch(cmd.Context(), wire.NameRequest{Name: name, Project: project, Version: version})
				if err != nil {
					return err
				}
				if done, err := a.print(fetchedValue{fetchReport{wire.JSONVersion, resp.Name, resp.Version}, resp.Value}); done {
					return err
				}
				_, err = a.out.Write(resp.Value)
				return err
			}
			if version != "" {
				return usageError("--version goes with --value")
			}
			var rows []wire.CheckResult
			req := wire.CheckRequest{Project: project, References: []string{referenceTo(name)}}
			if err := a.agent().Call(cmd.Context(), "POST", "/v1/references/check", req, &rows); err != nil {
				return err
			}
			if rows[0].Error != "" {
				return &client.RemoteError{Problem: wire.Problem{Error: rows[0].Error, Code: rows[0].Code, Hint: rows[0].Hint}}
			}
			if done, err := a.print(fetchReport{wire.JSONVersion, rows[0].Secret, rows[0].Version}); done {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s: version %s\n", rows[0].Secret, rows[0].Version)
			return err
		},
	})
	cmd.Flags().BoolVar(&value, "value", false, "print the value (root)")
	nameVar(cmd.Flags(), &version, "version", "an older version, with --value")
	completeOption(cmd, "version", a.completeVersions)
	return cmd
}

func (a *app) fetch(ctx context.Context, req wire.NameRequest) (resp wire.ValueResponse, err error) {
	return resp, a.agent().Call(ctx, "POST", "/v1/secret/fetch", req, &resp)
}

func (a *app) injectCommand() *cobra.Command {
	var envs []string
	cmd := &cobra.Command{
		Use: "inject [--env NAME=dso://…] -- COMMAND [ARG...]", Short: "Run a command with the values of its references in its environment",
		Long: `Run a command on this host, such as a job of cron, with the values of the references in its
environment: each variable that holds dso://… gets the value. The values are in the command's
environment and nowhere else. Root only; the audit log says so.

It ends as the command does: 127 says that there is no such command, 126 that it cannot be run.`,
		Example: "  docker dso inject --env PGPASSWORD=dso://shop/db_password -- pg_dump shop",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withHint(usageError("it must be said which command"), cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.inject(cmd.Context(), envs, args) },
	}
	cmd.Flags().StringArrayVarP(&envs, "env", "e", nil, "a variable more, `NAME=dso://…`")
	return cmd
}

func (a *app) inject(ctx context.Context, more, command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		code := ExitNoCommand
		if errors.Is(err, fs.ErrPermission) {
			code = ExitNotRunnable
		}
		return &coded{withHint(fmt.Errorf("run %s: %w", command[0], err), "the command follows --, and is looked for on the PATH of this host"), code}
	}
	project, err := compose.ProjectName(ctx, compose.Options{})
	if err != nil {
		return err
	}
	env := os.Environ()
	for _, kv := range more {
		name, text, ok := strings.Cut(kv, "=")
		if !ok || name == "" || !secret.IsRef(text) {
			return withHint(usageError("--env takes NAME=dso://…"), "a variable that holds no reference is set before the command: env NAME=value docker dso inject …")
		}
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, kv)
	}
	for i, kv := range env {
		name, text, _ := strings.Cut(kv, "=")
		if !secret.IsRef(text) {
			continue
		}
		value, err := a.valueOf(ctx, name, text, project)
		if err != nil {
			return err
		}
		env[i] = name + "=" + value
	}
	return fmt.Errorf("run %s: %w", command[0], syscall.Exec(path, command, env))
}

// valueOf resolves one reference for an environment.
func (a *app) valueOf(ctx context.Context, name, text, project string) (string, error) {
	ref, err := secret.ParseRef(text)
	if err != nil {
		return "", fmt.Errorf("variable %s: %w", name, err)
	}
	if ref.Kind != secret.KindValue {
		return "", withHint(fmt.Errorf("variable %s: inject gives values, not files", name), "use dso:// instead of dsofile://")
	}
	resp, err := a.fetch(ctx, wire.NameRequest{Name: ref.Path, Project: project})
	if err != nil {
		return "", fmt.Errorf("variable %s: %w", name, err)
	}
	value, err := secret.Field(secret.NewValue(resp.Value), ref.Field)
	if err != nil {
		return "", fmt.Errorf("variable %s: %s: %w", name, text, err)
	}
	if strings.ContainsRune(string(value.Reveal()), 0) {
		return "", fmt.Errorf("variable %s: the value has a NUL byte, which no environment variable can hold", name)
	}
	return string(value.Reveal()), nil
}
