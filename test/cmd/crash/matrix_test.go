package main

import (
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

func TestMatrix_CountsWhatTheTestsReport(t *testing.T) {
	m := newMatrix(time.Now())
	assert.NilError(t, m.countTests(strings.NewReader(`
{"Action":"run","Test":"TestMachine_X/files_only/none/back/pin/after/nothing"}
{"Action":"pass","Test":"TestMachine_X/files_only/none/back/pin/after/nothing"}
{"Action":"fail","Test":"TestMachine_X/files_only/none/back/pin/after/reboot"}
{"Action":"pass","Test":"TestMachine_X"}
`)))
	assert.Equal(t, *m.memory["none/back/pin/after"], count{1, 1})
	assert.Equal(t, m.cell("none/back/pin/after"), "1 + 0 **1 FAILED**")
	assert.Equal(t, m.line(), "crash: points=2 passed=1 real_engine_points=0 requests_failed=0")
	assert.Assert(t, !m.good())
	assert.Equal(t, len(m.missing()), len(rotation.Points())-1)
}
