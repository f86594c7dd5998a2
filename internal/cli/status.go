package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := a.jsonFlag(&cobra.Command{
		Use: "status", Short: "Show the agent, the containers and the versions they have", Args: noArgs,
		Long: `Show the agent, its providers, the secrets in use, the containers and the versions
they have. Every number was observed for this very call.

It exits 0 when everything is as it should be, 7 when something is not (and says what),
4 when no agent answers.`,
		Example: "  docker dso status\n  docker dso status --watch\n  docker dso status --json | jq -r .health",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !watch && cmd.Flags().Changed("interval"):
				return usageError("--interval goes with --watch")
			case every < 100*time.Millisecond:
				return usageError("--interval is at least 100ms")
			case watch:
				return a.watchStatus(cmd.Context(), every)
			}
			return a.showStatus(cmd.Context())
		},
	})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until interrupted; with --json one document a line")
	cmd.Flags().DurationVar(&every, "interval", 2*time.Second, "pause between two looks, with --watch")
	return cmd
}

func (a *app) status(ctx context.Context) (wire.Status, error) {
	var st wire.Status
	if err := a.agent().Call(ctx, "GET", "/v1/status", nil, &st); err != nil {
		return st, err
	}
	return st, nil
}

func (a *app) showStatus(ctx context.Context) error {
	st, err := a.status(ctx)
	if err != nil {
		_, printErr := a.print(noStatus(err))
		return cmp.Or(printErr, err)
	}
	if done, err := a.print(st); done {
		return errors.Join(err, unhealthy(st))
	}
	return errors.Join(a.printStatus(st), unhealthy(st))
}

func noStatus(err error) wire.NoStatus {
	return wire.NoStatus{SchemaVersion: wire.JSONVersion, AgentError: err.Error(), Health: wire.Unreachable}
}

// unhealthy is the error of a status that was shown and is not good: the code alone
// says it, the reasons stand in what was shown.
func unhealthy(st wire.Status) error {
	if st.Health == wire.Healthy {
		return nil
	}
	return &coded{errors.New(""), ExitUnhealthy}
}

// watchStatus shows the status until ctx ends. An agent that goes away is part of it.
func (a *app) watchStatus(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	live := a.rewrites()
	for {
		st, err := a.status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case a.asJSON && err != nil:
			if err := json.NewEncoder(a.out).Encode(noStatus(err)); err != nil {
				return err
			}
		case a.asJSON:
			if err := json.NewEncoder(a.out).Encode(st); err != nil {
				return err
			}
		default:
			if live {
				_, _ = fmt.Fprint(a.out, "\x1b[H\x1b[2J") // to the top, and clear
			}
			_, _ = fmt.Fprintf(a.out, "%s, every %s\n", time.Now().Format(time.DateTime), every)
			if err != nil {
				_, _ = fmt.Fprintln(a.out, a.paint(red, wire.Unreachable)+": "+err.Error())
			} else if err := a.printStatus(st); err != nil {
				return err
			}
			if !live {
				_, _ = fmt.Fprintln(a.out)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

var healthColours = map[string]colour{wire.Healthy: green, wire.Degraded: yellow, wire.Critical: red}

func (a *app) printStatus(st wire.Status) error {
	_, _ = fmt.Fprintf(a.out, "agent %s, up %s, %s\n", st.Runtime.Version, st.Runtime.Uptime, a.paint(healthColours[st.Health], st.Health))
	for _, r := range st.Reasons {
		_, _ = fmt.Fprintln(a.out, "  because "+r)
	}
	if c := st.Configuration; c != nil {
		_, _ = fmt.Fprintf(a.out, "configuration: %s cannot be used, the last good one holds\n", c.File)
		for _, p := range c.Problems {
			_, _ = fmt.Fprintln(a.out, "  "+p)
		}
	}
	for _, p := range st.Providers {
		_, _ = fmt.Fprintln(a.out, providerText(p))
	}
	_, _ = fmt.Fprintln(a.out, rotationsText(st.Rotations))
	if w := st.Rotations.Window; w != nil && w.Open {
		_, _ = fmt.Fprintf(a.out, "rotation.window: open (%s, for %s)\n", w.Cron, w.Duration)
	} else if w != nil {
		_, _ = fmt.Fprintf(a.out, "rotation.window: closed until %s (%s, for %s)\n", minute(w.Opens), w.Cron, w.Duration)
	}
	if q := st.Queue; q != nil {
		_, _ = fmt.Fprintf(a.out, "events: %d waiting (at most %d so far, room for %d), %d handled, %d dropped\n", q.Depth, q.MaxDepth, q.Capacity, q.Processed, q.Dropped)
	}
	err := a.printOpen(st.Rotations.Open)
	if len(st.Secrets) > 0 {
		_, _ = fmt.Fprintln(a.out)
		err = errors.Join(err, a.table("SECRET\tVERSION\tAGE\tCHECKED\tNEXT POLL\tUSED BY\t", len(st.Secrets), func(i int) string {
			s := st.Secrets[i]
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", s.Secret, versionText(s.Version), since(s.Since), since(s.Checked), until(s.NextPoll), strings.Join(s.UsedBy, ", "), s.Error)
		}))
	}
	_, _ = fmt.Fprintln(a.out)
	return errors.Join(err, a.table("CONTAINER\tSTATE\tSECRETS\tSTRATEGY\t", len(st.Containers), func(i int) string {
		c := st.Containers[i]
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", c.Name, stateText(c), secretsText(c), c.Strategy, noteText(c))
	}))
}

func rotationsText(r wire.RotationStatus) string {
	text := fmt.Sprintf("rotations: %d pending, %d successful, %d failed", r.Pending, r.Successful, r.Failed)
	if r.AvgTime != "" {
		text += ", " + r.AvgTime + " on average"
	}
	return text
}

// printOpen shows the rotations that are not over.
func (a *app) printOpen(open []wire.PendingRotation) error {
	if len(open) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(a.out)
	return a.table("ROTATION OF\tSTRATEGY\tPHASE\tSTEP\tFOR\t", len(open), func(i int) string {
		r := open[i]
		note := r.Error
		if r.NeedsPerson {
			note = "needs a person: " + r.Error
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", r.Container, r.Strategy, r.Phase, r.Step, r.Age, note)
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

// since is how long ago a moment was; empty when there was none.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return units.HumanDuration(time.Since(t))
}

// until is how long it is to a moment.
func until(t time.Time) string {
	switch d := time.Until(t); {
	case t.IsZero():
		return ""
	case d <= 0:
		return "now"
	default:
		return "in " + d.Round(time.Second).String()
	}
}

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

func versionText(v string) string {
	if v == "" {
		return "unknown"
	}
	return v
}

// mostSecrets is how many secrets of a container have room in a row.
const mostSecrets = 6

// secretsText shows each secret's version, and the current one where it is known and
// differs.
func secretsText(c wire.ContainerStatus) string {
	var parts []string
	for _, id := range c.Uses {
		has, want := c.Has[id], c.Wants[id]
		switch {
		case has == "" && want == "":
			parts = append(parts, id)
		case has == "":
			parts = append(parts, id+" ("+numbered(want)+")")
		case want == "" || has == want:
			parts = append(parts, id+" "+numbered(has))
		default:
			parts = append(parts, id+" "+numbered(has)+" -> "+numbered(want))
		}
	}
	if more := len(parts) - mostSecrets; more > 0 {
		parts = append(parts[:mostSecrets], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}

// numbered is a version as it stands in a line of text; some begin with a v of their own.
func numbered(version string) string { return "v" + strings.TrimPrefix(version, "v") }

func noteText(c wire.ContainerStatus) string {
	switch {
	case c.Stale != nil:
		return "stale, values of " + c.Stale.Age + " ago: " + c.Stale.Cause
	case c.Error != "":
		return c.Error
	case c.Rotation != nil:
		return "changing over: " + strings.TrimPrefix(c.Rotation.Phase+": ", "forward: ") + c.Rotation.Step
	case c.PinnedBy() != "":
		return "pinned since " + minute(c.Pin.Since) + " by " + c.Pin.By
	case c.Pin != nil && len(c.Pin.Failed) > 0:
		return "pinned since " + minute(c.Pin.Since) + ": it did not work with " + versionsText(c.Pin.Failed)
	case !c.HeldUntil.IsZero():
		return "held back until " + minute(c.HeldUntil)
	case c.Held != "":
		return c.Held
	case c.Pinned:
		return "pinned"
	}
	return ""
}

// versionsText shows versions by secret.
func versionsText(vs map[string]string) string {
	var parts []string
	for id, v := range vs {
		parts = append(parts, id+" v"+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
