package rotation

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestDocs_ShowTheProgramsAsTheyAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/design/architecture.md")
	assert.NilError(t, err)
	for strategy, ways := range programs {
		row := fmt.Sprintf("| %s | %s | %s |", strategy, words(ways[0]), words(ways[1]))
		assert.Assert(t, strings.Contains(string(page), row), "docs/design/architecture.md lacks: %s", row)
	}
}

func words(steps []Step) string {
	texts := make([]string, len(steps))
	for i, s := range steps {
		texts[i] = string(s)
	}
	return strings.Join(texts, " ")
}
