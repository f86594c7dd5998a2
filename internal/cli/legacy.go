package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// legacyReport is the JSON of docker dso recover --adopt-legacy.
type legacyReport struct {
	Leftovers []wire.Leftover `json:"leftovers"` // as they were before
	Results   []wire.Leftover `json:"results"`   // null when nothing was done
}

func (a *app) adoptLegacy(cmd *cobra.Command, dryRun, yes bool) error {
	var rows []wire.Leftover
	if err := a.agent().Call(cmd.Context(), "GET", "/v1/legacy", nil, &rows); err != nil {
		return err
	}
	if !a.asJSON {
		a.printLeftovers(rows)
	}
	var clear []wire.Leftover
	for _, l := range rows {
		if l.Do != "report" {
			clear = append(clear, l)
		}
	}
	if dryRun || len(clear) == 0 {
		_, err := a.print(legacyReport{Leftovers: rows})
		return err
	}
	if !yes {
		if agreed, err := a.agreed("containers", fmt.Sprintf("Do this with %d of them?", len(clear))); err != nil || !agreed {
			return err
		}
	}
	results, err := a.agent().Adopt(cmd.Context(), wire.AdoptRequest{Items: clear})
	if err != nil {
		return err
	}
	if _, err := a.print(legacyReport{rows, results}); err != nil {
		return err
	}
	return a.reportLeftovers(results)
}

// agreed asks a person whether something may be changed, and is an error where there is
// none.
func (a *app) agreed(changes, question string) (bool, error) {
	if !terminal(a.in) {
		return false, withHint(usageError("this changes %s, and nobody is here to be asked", changes), "--dry-run shows what would be done, --yes does it")
	}
	line, err := a.line(question + " [y/N] ")
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	_, _ = fmt.Fprintln(a.err, "nothing was done")
	return false, nil
}

var leftoverTodo = map[string]string{
	"restore": "start it if it does not run and, once it is healthy, give it the name %s",
	"remove":  "stop it if it runs, and remove it; its volumes stay",
	"report":  "nothing: it is for you",
}

func (a *app) printLeftovers(rows []wire.Leftover) {
	if len(rows) == 0 {
		_, _ = fmt.Fprintln(a.out, "nothing is left of an older version")
	}
	for _, l := range rows {
		todo := leftoverTodo[l.Do]
		switch {
		case l.Kind == wire.LeftoverLock && l.Do == "remove":
			todo = "remove it"
		case strings.Contains(todo, "%s"):
			todo = fmt.Sprintf(todo, l.Of)
		}
		_, _ = fmt.Fprintf(a.out, "%s %s\n  todo  %s\n  why   %s\n", l.Kind, l.Name, todo, l.Why)
		for _, c := range l.Commands {
			_, _ = fmt.Fprintf(a.out, "  run   %s\n", c)
		}
	}
}

// reportLeftovers says what came of each; its error, that not all was done.
func (a *app) reportLeftovers(results []wire.Leftover) error {
	var left []string
	for _, r := range results {
		line := map[string]string{"restore": r.Of + " runs again", "remove": "removed"}[r.Do]
		if r.Error != "" {
			left = append(left, r.Name)
			line = r.Error
		}
		if !a.asJSON {
			_, _ = fmt.Fprintf(a.out, "%s: %s\n", r.Name, line)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("not dealt with: %s", strings.Join(left, ", ")), "docker dso recover --adopt-legacy --dry-run shows what is left")
}
