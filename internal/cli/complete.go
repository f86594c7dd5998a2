package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
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
