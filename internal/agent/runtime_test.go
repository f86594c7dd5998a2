package agent

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// The runtime refuses by itself, and the agent has a record of it all the same.
func TestAnswerRuntime_OfASecretThatIsNotGivenIsARefusalOnRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	assert.NilError(t, os.Mkdir(dir, 0o700))
	records, problem, err := audit.Open(dir, audit.Options{})
	assert.NilError(t, err)
	assert.NilError(t, problem)
	var said bytes.Buffer
	journal, err := rotation.OpenJournal(filepath.Join(t.TempDir(), "rotations.json"), time.Now())
	assert.NilError(t, err)
	deliveries, err := deliver.Open(deliver.Config{Root: t.TempDir(), Pins: filepath.Join(t.TempDir(), "pins.json")})
	assert.NilError(t, err)
	a := &Agent{journal: journal, deliveries: deliveries, log: slog.New(slog.NewTextHandler(&said, nil)), audit: records, metrics: metrics.New()}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); a.answerRuntime(t.Context(), ours) }()
	assert.NilError(t, wire.Write(theirs, wire.DeliverRequest{ContainerID: strings.Repeat("c", 64), Name: "web", Missing: []string{"nosuch"}}))
	var resp wire.DeliverResponse
	assert.NilError(t, wire.Read(theirs, &resp))
	<-done
	assert.NilError(t, records.Close())
	assert.Assert(t, strings.Contains(resp.Error, "dso.secrets names nosuch"), resp.Error)
	assert.Assert(t, strings.Contains(said.String(), `msg="start refused" container=cccccccccccc name=web`), said.String())
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	assert.NilError(t, err)
	var kept []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		assert.NilError(t, err)
		kept = append(kept, text...)
	}
	for _, want := range []string{`"what":"refuse"`, `"container":"web"`, "start: label dso.secrets names nosuch"} {
		assert.Assert(t, strings.Contains(string(kept), want), "%s: %s", want, kept)
	}
}
