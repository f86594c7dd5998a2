package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) sealCommand() *cobra.Command {
	show := a.jsonFlag(&cobra.Command{
		Use: "seal", Short: "Show what protects the sealed values of before, and how many there are", Args: noArgs,
		Example: "  docker dso seal\n  docker dso seal new-key",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.seal(cmd, "GET", "/v1/seal") },
	})
	show.AddCommand(a.jsonFlag(&cobra.Command{
		Use: "new-key", Short: "Make another key and seal everything with it", Example: "  docker dso seal new-key", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.seal(cmd, "POST", "/v1/seal/key") },
	}))
	return show
}

func (a *app) seal(cmd *cobra.Command, method, path string) error {
	var s wire.Seal
	if err := a.agent().Call(cmd.Context(), method, path, nil, &s); err != nil {
		return err
	}
	if done, err := a.print(s); done {
		return err
	}
	if s.Protection == "off" {
		_, _ = fmt.Fprintln(a.out, "nothing is sealed: agent.seal is off")
		return nil
	}
	_, _ = fmt.Fprintf(a.out, "%d values of %d containers in %s, key %s, protected by %s\n", s.Values, s.Containers, s.Dir, s.Key, s.Protection)
	return nil
}
