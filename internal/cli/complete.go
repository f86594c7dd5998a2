package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
)

// completeWait bounds what a person waits for after the tab key.
const completeWait = time.Second

// completion offers what look returns, for the first argument only. An agent that does
// not answer offers nothing.
func completion(look func(context.Context) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeWait)
		defer cancel()
		var found []string
		for _, name := range look(ctx) {
			if strings.HasPrefix(name, typed) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// words completes one of some words.
func words(all ...string) cobra.CompletionFunc {
	return completion(func(context.Context) []string { return all })
}

// completeOption sets what an option is completed with.
func completeOption(cmd *cobra.Command, name string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
		panic(err) // there is no such option
	}
}

// completeVersions offers the versions of the secret that is the first argument.
func (a *app) completeVersions(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completion(func(ctx context.Context) []string {
		s, name, err := a.named(ctx, args[0])
		if err != nil {
			return nil
		}
		versions, _ := s.history(ctx, name)
		var found []string
		for _, v := range slices.Backward(versions) {
			if !v.Deleted {
				found = append(found, v.Version)
			}
		}
		return found
	})(cmd, nil, typed)
}

// completeVaultAndVersions offers a secret of the vault, then one of its versions.
func (a *app) completeVaultAndVersions(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeVault(cmd, args, typed)
	}
	return a.completeVersions(cmd, args, typed)
}

// completeDestinations offers the names below notifications: of dso.yaml.
func (a *app) completeDestinations(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(func(context.Context) []string {
		c, err := a.loadConfig()
		if err != nil {
			return nil
		}
		var names []string
		for _, n := range c.Notifications {
			names = append(names, n.Name)
		}
		return names
	})(cmd, args, typed)
}

// completeServices offers the services of the project that the arguments before choose.
// Options of docker compose are its own affair.
func completeServices(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && choosesProject(args[len(args)-1]) {
		return nil, cobra.ShellCompDirectiveDefault // its value: mostly a file
	}
	var o compose.Options
	global, rest := splitGlobal(args)
	if globalOptions(&o).Parse(global) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completion(func(ctx context.Context) []string {
		p, err := loadProject(ctx, o)
		if err != nil {
			return nil
		}
		var names []string
		for _, s := range p.Services() {
			if !slices.Contains(rest, s.Name) {
				names = append(names, s.Name)
			}
		}
		return names
	})(cmd, nil, typed)
}

func (a *app) completeContainers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(a.containerNames)(cmd, args, typed)
}

func (a *app) completeSecrets(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(a.usedNames)(cmd, args, typed)
}

// completeVault offers what the local vault has.
func (a *app) completeVault(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(a.vaultNames)(cmd, args, typed)
}

func (a *app) completeContainersAndSecrets(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(func(ctx context.Context) []string { return append(a.containerNames(ctx), a.usedNames(ctx)...) })(cmd, args, typed)
}

// completeOpen offers the containers of rotations that can be recovered.
func (a *app) completeOpen(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion(func(ctx context.Context) []string {
		st, _ := a.status(ctx)
		var names []string
		for _, r := range st.Rotations.Open {
			names = append(names, r.Container)
		}
		return names
	})(cmd, args, typed)
}

func (a *app) containerNames(ctx context.Context) []string {
	st, _ := a.status(ctx)
	var names []string
	for _, c := range st.Containers {
		names = append(names, c.Name)
	}
	return names
}

// pinnedNames are the containers that somebody has pinned.
func (a *app) pinnedNames(ctx context.Context) []string {
	st, _ := a.status(ctx)
	var names []string
	for _, c := range st.Containers {
		if c.PinnedBy() != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// usedNames are the secrets in use, and those of the vault.
func (a *app) usedNames(ctx context.Context) []string {
	st, _ := a.status(ctx)
	names := a.vaultNames(ctx)
	for _, s := range st.Secrets {
		if provider, path, _ := strings.Cut(s.Secret, ":"); provider != "local" {
			names = append(names, provider+"/"+path)
		}
	}
	return names
}

func (a *app) vaultNames(ctx context.Context) []string {
	s, err := a.secrets()
	if err != nil {
		return nil
	}
	infos, _ := s.list(ctx)
	return namesOf(infos)
}

func namesOf(infos []wire.SecretInfo) []string {
	var names []string
	for _, i := range infos {
		names = append(names, i.Name)
	}
	return names
}
