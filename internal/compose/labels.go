package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// The labels of DSO on a service. Those that the overlay writes are marked.
const (
	LabelReloader     = "dso.reloader"        // "false": DSO never touches the containers
	LabelSecrets      = "dso.secrets"         // further secrets that matter to the service
	LabelStrategy     = "dso.update.strategy" // a [Strategy]
	LabelHostPorts    = "dso.host_ports"
	LabelComposePath  = "dso.compose.path"  // overlay: the first Compose file, absolute
	LabelFront        = "dso.front"         // overlay: the front of this service
	LabelFrontService = "dso.front.service" // overlay: the service of this front
	LabelHealth       = "dso.health.timeout"
	LabelDrain        = "dso.drain.timeout"
	LabelMonitor      = "dso.monitor"
)

var knownLabels = []string{
	LabelReloader, LabelSecrets, LabelStrategy, LabelHostPorts, LabelComposePath,
	LabelFront, LabelFrontService, LabelHealth, LabelDrain, LabelMonitor,
}

// Strategy says how the containers of a service take up a new value.
type Strategy string

// The strategies.
const (
	Auto    Strategy = "auto"
	Rolling Strategy = "rolling"
	Restart Strategy = "restart"
	Signal  Strategy = "signal"
	Exec    Strategy = "exec"
	None    Strategy = "none"
)

var strategies = []string{string(Auto), string(Rolling), string(Restart), string(Signal), string(Exec), string(None)}

// checkLabels refuses a label of ours, or a strategy, that does not exist:
// a misspelt one would be ignored in silence.
func checkLabels(service string, labels types.Labels) error {
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(label, "dso.") && !slices.Contains(knownLabels, label) {
			return fmt.Errorf("%s: unknown label %s, did you mean %s?", service, label, nearest(label, knownLabels))
		}
	}
	if s, ok := labels[LabelStrategy]; ok && !slices.Contains(strategies, s) {
		return fmt.Errorf("%s: unknown %s %q, did you mean %q?", service, LabelStrategy, s, nearest(s, strategies))
	}
	return nil
}

// strategyOf returns the strategy that the labels ask for.
func strategyOf(labels types.Labels) Strategy {
	if s, ok := labels[LabelStrategy]; ok {
		return Strategy(s)
	}
	return Auto
}

// nearest returns the known word with the smallest edit distance to word.
func nearest(word string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return distance(word, a) - distance(word, b) })
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
