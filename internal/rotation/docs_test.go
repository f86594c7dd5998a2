package rotation

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestDocs_ShowTheProgramsAsTheyAre(t *testing.T) {
	rows := []string{}
	for strategy, phases := range programs {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", strategy, words(phases[Forward]), words(phases[Back])))
	}
	mustHold(t, "../../docs/design/architecture.md", rows)
}

func TestDocs_ShowTheRescuesAsTheyAre(t *testing.T) {
	rows := []string{}
	for _, p := range Phases[2:] {
		rows = append(rows, fmt.Sprintf("| %s | `%s` |", words(programs[Rolling][p]), p.outcome()))
	}
	mustHold(t, "../../docs/decisions/0011-somebody-else-in-the-middle.md", rows)
}

func mustHold(t *testing.T, path string, rows []string) {
	t.Helper()
	page, err := os.ReadFile(path)
	assert.NilError(t, err)
	for _, row := range rows {
		assert.Assert(t, strings.Contains(string(page), row), "%s lacks: %s", path, row)
	}
}

func words(steps []Step) string {
	texts := make([]string, len(steps))
	for i, s := range steps {
		texts[i] = string(s)
	}
	return strings.Join(texts, " ")
}
