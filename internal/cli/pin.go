package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) pinCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "pin CONTAINER", Short: "Keep a container at the versions that it has, until it is unpinned", Args: exactArgs(1), ValidArgsFunction: a.completeContainers,
		Long: `Keep a container at the versions that it has. A change of a secret does not change it over, and
whenever it starts it gets these versions, whatever happened to the agent or the host meanwhile.

docker dso unpin ends that, and so does a rotation of the container that somebody asks for with
docker dso rotate. A container that is made anew, by docker compose up, is another one.`,
		Example: "  docker dso pin shop-web-1\n  docker dso unpin shop-web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			resp, err := a.agent().Pin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if done, err := a.print(resp); done {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s is pinned to %s; docker dso unpin %[1]s lets it go\n", resp.Container, versionsText(resp.Versions))
			return err
		},
	})
}

func (a *app) unpinCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "unpin CONTAINER", Short: "Let a container that was pinned follow the current versions again", Args: exactArgs(1),
		ValidArgsFunction: completion(a.pinnedNames),
		Long: `Let a container that was pinned follow the current versions again, and wait until it was changed over.
Versions that it did not work with before are not tried again by that: docker dso rotate does.`,
		Example: "  docker dso unpin shop-web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			resp, err := a.agent().Unpin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if done, err := a.print(resp); done {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s follows the current versions again; docker dso status shows what it has\n", resp.Container)
			return err
		},
	})
}
