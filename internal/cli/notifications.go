package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) notificationsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notifications", Short: "Try out who is told of what happens", Args: noSuchCommand, Example: "  docker dso notifications test",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.notificationsTest())
	return cmd
}

func (a *app) notificationsTest() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "test [NAME]", Short: "Send a test to the destinations of dso.yaml, or to one", Args: rangeArgs(0, 1), ValidArgsFunction: a.completeDestinations,
		Long: `Send a test to the destinations below notifications: of dso.yaml, or to the one with that
name. It is tried once. It exits 1 when one of them did not take it.`,
		Example: "  docker dso notifications test\n  docker dso notifications test ops --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var req wire.NotifyRequest
			if len(args) == 1 {
				req.Name = args[0]
			}
			var rows []wire.NotifyResult
			if err := a.agent().Call(cmd.Context(), "POST", "/v1/notifications/test", req, &rows); err != nil {
				return err
			}
			bad := error(nil)
			for _, r := range rows {
				if r.Error != "" {
					bad = &coded{errors.New(""), ExitError}
				}
			}
			if done, err := a.print(rows); done {
				return errors.Join(err, bad)
			}
			if len(rows) == 0 {
				_, err := fmt.Fprintln(a.out, "dso.yaml has no notifications")
				return err
			}
			for _, r := range rows {
				said := fmt.Sprintf("taken (HTTP %d)", r.Status)
				if r.Error != "" {
					said = r.Error
				}
				_, _ = fmt.Fprintf(a.out, "%s: %s\n", r.Name, said)
			}
			return bad
		},
	})
}
