package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// scripts write what a shell needs to complete the commands of a program.
var scripts = map[string]func(*cobra.Command, io.Writer) error{
	"bash":       func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
	"zsh":        (*cobra.Command).GenZshCompletion,
	"fish":       func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
	"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
}

var shells = []string{"bash", "zsh", "fish", "powershell"}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Print what makes a shell complete commands and names", Args: exactArgs(1),
		ValidArgsFunction: words(shells...),
		Long: `Print what makes a shell complete commands, options and the names of containers, secrets and
versions. docker dso completion prints it for docker with all of its plugins, as docker completion
does; dso completion for dso.`,
		Example: "  source <(docker dso completion bash)\n  docker dso completion zsh > \"${fpath[1]}/_docker\"\n  docker dso completion fish > ~/.config/fish/completions/docker.fish",
		RunE: func(cmd *cobra.Command, args []string) error {
			write, ok := scripts[args[0]]
			if !ok {
				return withHint(usageError("no script for the shell %q", args[0]), cmd.UseLine())
			}
			return write(cmd.Root(), a.out)
		},
	}
}
