package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) watchCommand() *cobra.Command {
	var noFollow bool
	cmd := &cobra.Command{
		Use: "watch", Short: "Print the agent's events as they happen", Args: exactArgs(0),
		Long: `Print the agent's events: first those that it remembers, then each as it happens,
until interrupted. With --json each is one line, with the fields of the log.`,
		Example: "  docker dso watch\n  docker dso watch --no-follow --json | jq 'select(.level != \"info\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.agent().Events(cmd.Context(), 0, !noFollow, a.showEvent)
		},
	}
	cmd.Flags().BoolVar(&noFollow, "no-follow", false, "print what the agent remembers, and end")
	return a.jsonFlag(cmd)
}

func (a *app) showEvent(e wire.Event) {
	if a.asJSON {
		_ = json.NewEncoder(a.out).Encode(e)
		return
	}
	line := fmt.Sprintf("%s %-5s %s", e.Time.Local().Format("15:04:05.000"), e.Level, e.Message)
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		value := fmt.Sprint(e.Fields[key])
		if value == "" || strings.ContainsAny(value, " \"\n\t") {
			value = fmt.Sprintf("%q", value)
		}
		line += fmt.Sprintf(" %s=%s", key, value)
	}
	_, _ = fmt.Fprintln(a.out, line)
}
