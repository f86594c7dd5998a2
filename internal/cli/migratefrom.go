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

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/migrate"
	"github.com/docker-secret-operator/dso/internal/migrate/v3"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// fromV3 is the one version that there is a way from.
const fromV3 = "v3.5"

// masterKey is the variable that version 3.5 took its key from.
const masterKey = "DSO_MASTER_KEY"

// migrationFrom plans what becomes of an older installation. It reads only.
func (a *app) migrationFrom(ctx context.Context, o migrateOptions) (migrate.Plan, error) {
	plan := migrate.Plan{SchemaVersion: 1, Secrets: []migrate.Secret{}, Files: []migrate.Output{}, Left: []migrate.Left{}}
	if err := planOldVault(&plan, o); err != nil {
		return plan, err
	}
	if err := a.planOldConfig(&plan); err != nil {
		return plan, err
	}
	a.planOldLeftovers(ctx, &plan)
	return plan, nil
}

// planOldVault plans the vault's secrets; a user who had no vault has none.
func planOldVault(plan *migrate.Plan, o migrateOptions) error {
	path := o.oldVault
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		path = filepath.Join(home, ".dso", "vault.enc")
	}
	file, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && o.oldVault == "" {
		plan.Left = append(plan.Left, migrate.Left{Where: path, Text: "is not there: --vault says where another user's vault is"})
		return nil
	}
	if err != nil {
		return err
	}
	master, err := oldKey(o.oldKey, path)
	if err != nil {
		return err
	}
	all, err := v3.Vault(file, master)
	if errors.Is(err, v3.ErrKey) {
		return withHint(fmt.Errorf("%s: %w", path, err), "--key says which file holds its master key, or set "+masterKey)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range all {
		plan.Secrets = append(plan.Secrets, migrate.Secret{
			Name: s.Name, Value: s.Value, Bytes: s.Value.Len(), Why: "it is in the vault of version 3.5", From: []string{path},
		})
	}
	if slices.ContainsFunc(all, func(s v3.Secret) bool { return strings.HasPrefix(s.Name, "global/") }) {
		plan.Left = append(plan.Left, migrate.Left{
			Where: "the namespace global", Text: "a reference has to name it, as it had to before: dso://global/NAME",
		})
	}
	return nil
}

// oldKey reads the master key: the file that is named, the variable, or what lies beside
// the vault.
func oldKey(path, vault string) (secret.Value, error) {
	if text := os.Getenv(masterKey); path == "" && text != "" {
		return secret.NewValue([]byte(text)), nil
	}
	if path == "" {
		path = filepath.Join(filepath.Dir(vault), "master.key")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return secret.Value{}, withHint(fmt.Errorf("read the master key of %s: %w", vault, err), "--key says which file holds it, or set "+masterKey)
	}
	return secret.NewValue(text), nil
}

// planOldConfig plans the configuration, unless it is of this version already.
func (a *app) planOldConfig(plan *migrate.Plan) error {
	path, err := config.Find(a.config)
	if errors.Is(err, config.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := config.Parse(path, secret.NewValue(text)); err == nil {
		plan.Left = append(plan.Left, migrate.Left{Where: path, Text: "this version takes it as it is"})
		return nil
	}
	translated, changes, err := v3.Config(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	out := migrate.Output{
		Original: path, Path: strings.TrimSuffix(path, filepath.Ext(path)) + ".v4" + filepath.Ext(path),
		Changes: changes, Text: translated, Private: true,
	}
	plan.Files = append(plan.Files, out)
	var problems *config.Error
	if _, err := config.Parse(out.Path, secret.NewValue(translated)); errors.As(err, &problems) {
		for _, p := range problems.Problems {
			plan.Left = append(plan.Left, migrate.Left{Where: out.Path, Text: p.String()})
		}
	}
	return nil
}

// planOldLeftovers names the containers and locks that the older version has left.
func (a *app) planOldLeftovers(ctx context.Context, plan *migrate.Plan) {
	var rows []wire.Leftover
	if err := a.agent().Call(ctx, "GET", "/v1/legacy", nil, &rows); err != nil {
		plan.Left = append(plan.Left, migrate.Left{Where: "containers and locks", Text: "no agent tells of them now; later: docker dso recover --adopt-legacy --dry-run"})
		return
	}
	for _, r := range rows {
		plan.Left = append(plan.Left, migrate.Left{Where: r.Kind + " " + r.Name, Text: r.Why + ": docker dso recover --adopt-legacy --dry-run"})
	}
}
