package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

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
	if c := st.Configuration; c != nil {
		_, _ = fmt.Fprintf(a.out, "configuration: %s cannot be used, the last good one holds\n", c.File)
		for _, p := range c.Problems {
			_, _ = fmt.Fprintln(a.out, "  "+p)
		}
	}
	for _, p := range st.Providers {
		_, _ = fmt.Fprintln(a.out, providerText(p))
	}
	_, _ = fmt.Fprintf(a.out, "rotations: %d pending, %d successful, %d failed\n", st.Rotations.Pending, st.Rotations.Successful, st.Rotations.Failed)
	if w := st.Rotations.Window; w != nil && w.Open {
		_, _ = fmt.Fprintf(a.out, "rotation.window: open (%s, for %s)\n", w.Cron, w.Duration)
	} else if w != nil {
		_, _ = fmt.Fprintf(a.out, "rotation.window: closed until %s (%s, for %s)\n", minute(w.Opens), w.Cron, w.Duration)
	}
	_, _ = fmt.Fprintln(a.out)
	return a.table("CONTAINER\tSTATE\tSECRETS\tSTRATEGY\t", len(st.Containers), func(i int) string {
		c := st.Containers[i]
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", c.Name, stateText(c), secretsText(c), c.Strategy, noteText(c))
	})
}

// providerText shows how a provider is, and what it is asked for.
func providerText(p wire.ProviderStatus) string {
	parts := []string{strings.TrimSpace(p.Status + " " + p.Message)}
	if p.Circuit.State == "open" {
		parts = append(parts, fmt.Sprintf("not asked since %s, next try %s", p.Circuit.Since.Local().Format(time.DateTime), p.Circuit.NextTry.Local().Format(time.TimeOnly)))
	}
	if p.Interval != nil {
		every := p.Interval.Shortest
		if p.Interval.Longest != every {
			every += " to " + p.Interval.Longest
		}
		parts = append(parts, fmt.Sprintf("%s, looked at every %s", plural(p.Secrets, "secret"), every))
	}
	if p.Budget != nil && p.Budget.Late != "" {
		parts = append(parts, fmt.Sprintf("polls wait for calls_per_minute: %d, now for %s", p.Budget.PerMinute, p.Budget.Late))
	}
	if c := p.Calls; c.Version+c.Value > 0 {
		parts = append(parts, fmt.Sprintf("calls: %d version, %d value, %d failed", c.Version, c.Value, c.Failed))
	}
	return "provider " + p.Name + ": " + strings.Join(parts, "; ")
}

func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
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
	case !c.HeldUntil.IsZero():
		return "held back until " + minute(c.HeldUntil)
	case c.Held != "":
		return c.Held
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
