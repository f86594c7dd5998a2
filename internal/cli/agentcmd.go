package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agent [OPTIONS]", Short: "Run the agent here, until it is interrupted", DisableFlagParsing: true,
		Long: `Run dso-agent in the foreground, with its own options, which dso-agent -help lists. On a host
that was set up it runs as a service: docker dso system status.`,
		Example: "  docker dso agent --standby\n  docker dso agent -version",
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
				return cmd.Help()
			}
			program, err := agentProgram()
			if err != nil {
				return err
			}
			// This process becomes the agent: signals and exit codes are its own.
			return fmt.Errorf("run %s: %w", program, syscall.Exec(program, append([]string{program}, args...), os.Environ()))
		},
	}
}

// agentProgram finds dso-agent: beside this program, or on the PATH.
func agentProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if beside := filepath.Join(filepath.Dir(self), "dso-agent"); isProgram(beside) {
				return beside, nil
			}
		}
	}
	program, err := exec.LookPath("dso-agent")
	if err != nil {
		return "", withHint(errors.New("dso-agent is neither beside this program nor on the PATH"), "the package docker-dso has it")
	}
	return program, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
