package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and check the configuration", Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.configShow(), a.configValidate(), a.configEdit())
	return cmd
}

func (a *app) configShow() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "show", Short: "Show what the configuration file says, with defaults and without credentials", Example: "  docker dso config show\n  docker dso config show --json | jq .providers", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadConfig()
			if errors.Is(err, config.ErrNone) {
				c, err = config.Default(), nil
			}
			if err != nil {
				return err
			}
			show := c.Show
			if a.asJSON {
				show = c.ShowJSON
			} else if c.File != "" {
				_, _ = fmt.Fprintln(a.out, "# "+c.File)
			} else {
				_, _ = fmt.Fprintln(a.out, "# no file: what holds without one")
			}
			text, err := show()
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	})
}

// configReport is what "config validate --json" prints.
type configReport struct {
	File     string           `json:"file"`
	Valid    bool             `json:"valid"`
	Problems []config.Problem `json:"problems"`
	Warnings []config.Problem `json:"warnings,omitempty"` // of a file that is valid
}

func (a *app) configValidate() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "validate", Short: "Check the configuration file, and tell every problem with its line", Args: noArgs,
		Example: "  docker dso config validate\n  docker dso -c ./dso.yaml config validate --json",
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadConfig()
			var bad *config.Error
			switch {
			case errors.As(err, &bad):
				report := configReport{File: bad.Problems[0].File, Problems: bad.Problems}
				if done, printErr := a.print(report); done {
					return errors.Join(printErr, &coded{errors.New(""), ExitError})
				}
				return err
			case err != nil:
				return err
			}
			if done, err := a.print(configReport{File: c.File, Valid: true, Problems: []config.Problem{}, Warnings: c.Warnings}); done {
				return err
			}
			a.warn(c)
			_, err = fmt.Fprintf(a.out, "%s is valid (providers besides the local vault: %d)\n", c.File, c.Others())
			return err
		},
	})
}

// warn tells what does not keep a file from being used.
func (a *app) warn(c *config.Config) {
	for _, w := range c.Warnings {
		_, _ = fmt.Fprintln(a.err, "dso: warning: "+w.String())
	}
}

func (a *app) loadConfig() (*config.Config, error) {
	path, err := config.Find(a.config)
	if errors.Is(err, config.ErrNone) {
		return nil, withHint(err, "name a file with -c")
	}
	if err != nil {
		return nil, err
	}
	return config.Load(path)
}
