package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) statusCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "status", Short: "Show the agent, the containers and the versions they have", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st wire.Status
			err := a.agent().Call(cmd.Context(), "GET", "/v1/status", nil, &st)
			if err != nil {
				if done, printErr := a.print(wire.Status{AgentError: err.Error(), Health: "unreachable"}); done && printErr == nil {
					return &coded{err, ExitNoAgent}
				}
				return err
			}
			if done, err := a.print(st); done {
				return err
			}
			return a.printStatus(st)
		},
	})
}

func (a *app) printStatus(st wire.Status) error {
	_, _ = fmt.Fprintf(a.out, "agent %s, up %s, %s\n", st.Runtime.Version, st.Runtime.Uptime, st.Health)
	for _, p := range st.Providers {
		_, _ = fmt.Fprintln(a.out, strings.TrimSpace(fmt.Sprintf("provider %s: %s %s", p.Name, p.Status, p.Message)))
	}
	_, _ = fmt.Fprintf(a.out, "rotations: %d pending, %d successful, %d failed\n\n", st.Rotations.Pending, st.Rotations.Successful, st.Rotations.Failed)
	return a.table("CONTAINER\tSTATE\tSECRETS\tSTRATEGY\t", len(st.Containers), func(i int) string {
		c := st.Containers[i]
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", c.Name, stateText(c), secretsText(c), c.Strategy, noteText(c))
	})
}

func stateText(c wire.ContainerStatus) string {
	if c.Health != "" {
		return c.State + " (" + c.Health + ")"
	}
	return c.State
}

// secretsText shows each secret's version, and the current one where it differs.
func secretsText(c wire.ContainerStatus) string {
	var parts []string
	for id, want := range c.Wants {
		has := c.Has[id]
		switch has {
		case want:
			parts = append(parts, id+" v"+has)
		case "":
			parts = append(parts, id+" (v"+want+")")
		default:
			parts = append(parts, id+" v"+has+" -> v"+want)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func noteText(c wire.ContainerStatus) string {
	switch {
	case c.Stale != nil:
		return "stale, values of " + c.Stale.Age + " ago: " + c.Stale.Cause
	case c.Error != "":
		return c.Error
	case c.Pinned:
		return "pinned"
	}
	return ""
}

func (a *app) planCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use: "plan", Short: "Show how each container would be changed over, and why so", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st wire.Status
			if err := a.agent().Call(cmd.Context(), "GET", "/v1/status", nil, &st); err != nil {
				return err
			}
			if done, err := a.print(st.Containers); done {
				return err
			}
			return a.table("CONTAINER\tSTRATEGY\tBECAUSE", len(st.Containers), func(i int) string {
				c := st.Containers[i]
				because := strings.Join(c.Reasons, "; ")
				if c.Error != "" {
					because = c.Error
				}
				return fmt.Sprintf("%s\t%s\t%s", c.Name, c.Strategy, because)
			})
		},
	})
}
