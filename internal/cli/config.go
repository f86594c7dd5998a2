package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and check the configuration", Args: noSuchCommand, Example: "  docker dso config show\n  docker dso config validate\n  docker dso config edit",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.configShow(), a.configValidate(), a.configEdit(), a.configHistory())
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

func (a *app) configHistory() *cobra.Command {
	var version int
	cmd := a.jsonFlag(&cobra.Command{
		Use: "history", Short: "List the last good configurations, or print one as it was written", Args: noArgs,
		Long: `List the last good configurations that the agent has taken, the newest first, or print one as it was
written, credentials included: as root. To go back to one, write it into the file.`,
		Example: "  docker dso config history\n  docker dso config history --version 2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("version") {
				var v wire.ConfigVersion
				if err := a.agent().Call(cmd.Context(), "POST", "/v1/config/version", wire.ConfigVersion{Number: version}, &v); err != nil {
					return err
				}
				if done, err := a.print(v); done {
					return err
				}
				_, err := a.out.Write(v.Content)
				return err
			}
			var rows []wire.ConfigVersion
			if err := a.agent().Call(cmd.Context(), "GET", "/v1/config/versions", nil, &rows); err != nil {
				return err
			}
			if done, err := a.print(rows); done {
				return err
			}
			return a.table("VERSION\tTAKEN\tFILE\t", len(rows), func(i int) string {
				return fmt.Sprintf("%d\t%s\t%s\t", rows[i].Number, rows[i].Taken.Local().Format(time.DateTime), rows[i].File)
			})
		},
	})
	cmd.Flags().IntVar(&version, "version", 0, "print this one")
	return cmd
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
		Use: "validate [FILE]", Short: "Check the configuration file, and tell every problem with its line", Args: rangeArgs(0, 1),
		Example: "  docker dso config validate\n  docker dso config validate ./dso.yaml --json",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				if a.config != "" {
					return withHint(usageError("the file is named twice, as an argument and with -c"), "leave one of them out")
				}
				a.config = args[0]
			}
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
	c, err := config.Load(path)
	if a.config != "" && errors.Is(err, fs.ErrNotExist) {
		err = withHint(err, "-c names the file; without it "+config.SystemFile+" or ./"+config.LocalFile+" is read")
	}
	return c, err
}
