package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

func TestPage_ListsEveryPointOfTheProgram(t *testing.T) {
	content, err := os.ReadFile("../../../" + page)
	assert.NilError(t, err)
	text := string(content)
	want := skeleton(without(newMatrix(time.Now()).page(), notRun(text)))
	assert.DeepEqual(t, skeleton(text), want)
	assert.Assert(t, !strings.Contains(text, "FAILED") && !strings.Contains(text, "| 0 |") && !strings.Contains(text, "| 0 + "), "every point was survived")
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) == 8 && strings.Contains(line, "`") {
			assert.Assert(t, strings.Contains(line, " + "), "not tried on a real engine: %s", line)
		}
	}
}

// notRun are the strategies that the page itself says are younger than its run. Make
// crash writes no such line: the next run has them.
func notRun(page string) []string {
	_, line, _ := strings.Cut(page, "\nNot in that run: ")
	line, _, _ = strings.Cut(line, ", which came after it.")
	return strings.FieldsFunc(line, func(r rune) bool { return r == '`' || r == ',' || r == ' ' })
}

// without leaves sections out of a page.
func without(page string, sections []string) string {
	parts := strings.Split(page, "\n## ")
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool {
		title, _, _ := strings.Cut(p, "\n")
		return slices.Contains(sections, title)
	}), "\n## ")
}

// skeleton is what of a page does not depend on the run: its sections, phases
// and steps.
func skeleton(page string) []string {
	var lines []string
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		switch {
		case strings.HasPrefix(line, "## "):
			lines = append(lines, line)
		case len(cells) == 8:
			lines = append(lines, cells[1]+cells[2])
		}
	}
	return lines
}

func TestMatrix_CountsWhatTheTestsReport(t *testing.T) {
	m := newMatrix(time.Now())
	assert.NilError(t, m.countTests(strings.NewReader(`
{"Action":"run","Test":"TestMachine_X/files_only/none/back/pin/after/nothing"}
{"Action":"pass","Test":"TestMachine_X/files_only/none/back/pin/after/nothing"}
{"Action":"fail","Test":"TestMachine_X/files_only/none/back/pin/after/reboot"}
{"Action":"pass","Test":"TestMachine_X"}
`)))
	assert.Equal(t, *m.memory["none/back/pin/after"], count{1, 1})
	assert.Equal(t, m.cell("none/back/pin/after"), "1 **1 FAILED**")
	assert.Equal(t, m.line(), "crash: points=2 passed=1 real_engine_points=0 requests_failed=0")
	assert.Assert(t, !m.good())
	assert.Equal(t, len(m.missing()), len(rotation.Points())-1)
}
