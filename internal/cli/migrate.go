package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/migrate"
)

// migrateOptions are what a person says about a migration.
type migrateOptions struct {
	files, envFiles  []string
	project          string
	include, exclude []string
	noEntropy        bool
	apply, yes       bool
	existing         string // what happens to a secret that is there already
	from             string // an older version of DSO whose installation is moved; empty: a Compose project
	oldVault, oldKey string
}

func (a *app) migrateCommand() *cobra.Command {
	var o migrateOptions
	cmd := a.jsonFlag(&cobra.Command{
		Use: "migrate", Short: "Move the secrets of a Compose project, or of DSO 3.5, to the vault", Args: noArgs,
		Long: `Find the likely secrets in the Compose files of the project and its .env files, by the names
of the variables and by what the values look like, and show what would be done with each.
No value is printed, and nothing is changed.

With --apply, after a question, the values are stored in the vault and new files are written
beside the originals, compose.dso.yaml beside compose.yaml, with references in the place
of the values; comments and order stay. An original is never overwritten: look at the new
files, try them (docker dso up -f compose.dso.yaml -d), and put them in the place of the old
ones yourself. What a Compose file includes or extends from is read and not written anew: the
plan names it, and how to migrate it.

With --from v3.5 it is about an installation of that version: the secrets of its vault file, and its
dso.yaml, of which dso.v4.yaml is written beside it; what has no translation is named. The old
files stay as they are.`,
		Example: "  docker dso migrate\n  docker dso migrate --from v3.5\n  docker dso migrate --exclude APP_KEY --include ADMIN --apply",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"error", "keep", "replace"}, o.existing) {
				return usageError("--existing is error, keep or replace")
			}
			if o.from != "" && o.from != fromV3 {
				return usageError("--from is " + fromV3)
			}
			if o.from == "" && o.oldVault+o.oldKey != "" {
				return usageError("--vault and --key go with --from " + fromV3)
			}
			if o.yes && !o.apply {
				return usageError("--yes goes with --apply")
			}
			return a.migrate(cmd.Context(), o)
		},
	})
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "compose-file", "f", nil, "Compose `file`, as docker compose -f")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "environment `file` of Compose (default: .env)")
	f.StringVarP(&o.project, "project-name", "p", "", "name of the project")
	f.StringSliceVar(&o.include, "include", nil, "`variables` that are secrets whatever they look like")
	f.StringSliceVar(&o.exclude, "exclude", nil, "`variables` that are none")
	f.BoolVar(&o.noEntropy, "no-entropy", false, "take no value for a secret because it looks random")
	f.BoolVar(&o.apply, "apply", false, "store the secrets and write the new files")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --apply: do not ask")
	f.StringVar(&o.from, "from", "", "move an installation of an older `version` of DSO: v3.5")
	f.StringVar(&o.oldVault, "vault", "", "with --from: vault `file` (default ~/.dso/vault.enc)")
	f.StringVar(&o.oldKey, "key", "", "with --from: `file` with its master key (default: DSO_MASTER_KEY, or master.key beside the vault)")
	f.StringVar(&o.existing, "existing", "error", "what to do with a secret that the vault has already: error, keep or replace")
	return cmd
}

func (a *app) migrate(ctx context.Context, o migrateOptions) error {
	plan, err := a.migrationPlan(ctx, o)
	if err != nil {
		return err
	}
	if !o.apply {
		plan.Left = append(plan.Left, a.inTheWay(ctx, plan, o.existing)...)
	}
	if !a.asJSON {
		a.printMigration(plan)
	}
	if !o.apply || len(plan.Secrets)+len(plan.Files) == 0 {
		_, err := a.print(plan)
		return err
	}
	if err := freeNames(plan); err != nil {
		return err
	}
	if !o.yes {
		if agreed, err := a.agreed("the vault and this directory", "Store them, and write the new files?"); err != nil || !agreed {
			return err
		}
	}
	if err := a.storePlanned(ctx, plan, o.existing); err != nil {
		return err
	}
	for _, f := range plan.Files {
		if err := writeBeside(f); err != nil {
			return err
		}
		if !a.asJSON {
			_, _ = fmt.Fprintln(a.out, "wrote", f.Path)
		}
	}
	_, err = a.print(plan)
	return err
}

func (a *app) migrationPlan(ctx context.Context, o migrateOptions) (migrate.Plan, error) {
	if o.from != "" {
		return a.migrationFrom(ctx, o)
	}
	in, err := migrationInput(ctx, o)
	if err != nil {
		return migrate.Plan{}, err
	}
	return migrate.Make(in)
}

// migrationInput reads the project as it lies there.
func migrationInput(ctx context.Context, o migrateOptions) (migrate.Input, error) {
	opts := compose.Options{Files: o.files, EnvFiles: o.envFiles, ProjectName: o.project}
	files, dir, err := compose.Files(opts)
	if err != nil {
		return migrate.Input{}, err
	}
	project, err := compose.ProjectName(ctx, opts)
	if err != nil {
		return migrate.Input{}, err
	}
	in := migrate.Input{Project: project, Dir: dir, Read: os.ReadFile, Environ: map[string]string{}, Include: o.include, Exclude: o.exclude, NoEntropy: o.noEntropy}
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		in.Environ[name] = value
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return in, err
		}
		in.Compose = append(in.Compose, migrate.File{Path: path, Text: text})
	}
	envs := o.envFiles
	if len(envs) == 0 {
		envs = []string{filepath.Join(dir, ".env")}
	}
	for _, path := range envs {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && len(o.envFiles) == 0 {
			continue
		}
		if err != nil {
			return in, err
		}
		in.Env = append(in.Env, migrate.File{Path: path, Text: text})
	}
	return in, nil
}

func (a *app) printMigration(p migrate.Plan) {
	if len(p.Secrets) == 0 && p.Project != "" {
		_, _ = fmt.Fprintf(a.out, "project %s has no likely secret in the clear\n", p.Project)
	}
	for _, s := range p.Secrets {
		_, _ = fmt.Fprintf(a.out, "secret %s, %d bytes: %s\n", s.Name, s.Bytes, s.Why)
		for _, from := range s.From {
			_, _ = fmt.Fprintln(a.out, "  from", from)
		}
	}
	for _, f := range p.Files {
		_, _ = fmt.Fprintf(a.out, "file %s, beside %s\n", f.Path, filepath.Base(f.Original))
		for _, c := range f.Changes {
			_, _ = fmt.Fprintln(a.out, "  "+c)
		}
	}
	for _, l := range p.Left {
		_, _ = fmt.Fprintf(a.out, "left %s\n  %s\n", l.Where, l.Text)
	}
}

// inTheWay is what --apply would stop at: a plan says it beforehand. A vault that cannot be
// asked is not a reason to show no plan.
func (a *app) inTheWay(ctx context.Context, p migrate.Plan, existing string) (found []migrate.Left) {
	for _, f := range p.Files {
		if _, err := os.Lstat(f.Path); err == nil {
			found = append(found, migrate.Left{Where: f.Path, Text: "it is there already: move it away before --apply, no file is overwritten"})
		}
	}
	if len(p.Secrets) == 0 || existing != "error" {
		return found
	}
	s, err := a.secrets()
	if err != nil {
		return found
	}
	taken, err := takenNames(ctx, s, p)
	if err != nil {
		return found
	}
	for _, name := range taken {
		found = append(found, migrate.Left{Where: "secret " + name, Text: "the vault has it already: " + existingHint})
	}
	return found
}

// freeNames refuses before anything is done, when a new file is there already.
func freeNames(p migrate.Plan) error {
	for _, f := range p.Files {
		if _, err := os.Lstat(f.Path); err == nil {
			return withHint(fmt.Errorf("%s is there already", f.Path), "move it away: no file is overwritten")
		}
	}
	return nil
}

// writeBeside writes a new file with the mode of the original, and never over another.
func writeBeside(f migrate.Output) error {
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(f.Original); err == nil {
		mode = st.Mode().Perm()
	}
	if f.Private {
		mode &= 0o640
	}
	out, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Text)
	return errors.Join(err, out.Sync(), out.Close(), durable.SyncDir(filepath.Dir(f.Path)))
}

const existingHint = "--existing keep refers to what is there, --existing replace stores the value as a new version"

// takenNames are the secrets of a plan that the vault has already.
func takenNames(ctx context.Context, s secrets, p migrate.Plan) (taken []string, err error) {
	infos, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	names := namesOf(infos)
	for _, planned := range p.Secrets {
		if slices.Contains(names, planned.Name) {
			taken = append(taken, planned.Name)
		}
	}
	return taken, nil
}

// storePlanned stores the values; what is there already is dealt with as a person said.
func (a *app) storePlanned(ctx context.Context, p migrate.Plan, existing string) error {
	s, err := a.secrets()
	if err != nil {
		return err
	}
	taken, err := takenNames(ctx, s, p)
	if err != nil {
		return err
	}
	if len(taken) > 0 && existing == "error" {
		return withHint(fmt.Errorf("the vault has %s already", strings.Join(taken, ", ")), existingHint)
	}
	for _, planned := range p.Secrets {
		if existing == "keep" && slices.Contains(taken, planned.Name) {
			continue
		}
		resp, err := s.set(ctx, wire.SetRequest{Name: planned.Name, Value: planned.Value.Reveal(), AllowEmpty: true})
		if err != nil {
			return fmt.Errorf("store %s: %w", planned.Name, err)
		}
		if !a.asJSON {
			_, _ = fmt.Fprintf(a.out, "stored %s version %s\n", resp.Name, resp.Version)
		}
	}
	return nil
}
