package eventlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/eventlog"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func logger(keep int) (*eventlog.Log, *slog.Logger, *bytes.Buffer) {
	events, text := eventlog.New(keep), &bytes.Buffer{}
	return events, slog.New(events.Handler(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelWarn}))), text
}

func TestLog_KeepsWhatIsLoggedWithItsFields(t *testing.T) {
	events, log, text := logger(10)
	log.Debug("not an event")
	log.With("file", "/x").Warn("state file was unreadable", "reason", errors.New("cut off"))
	log.Info("agent ready", "count", 2)

	got, _ := events.After(0)
	assert.Equal(t, len(got), 2)
	assert.Equal(t, got[0].Message, "state file was unreadable")
	assert.DeepEqual(t, got[0].Fields, map[string]any{"file": "/x", "reason": "cut off"})
	assert.DeepEqual(t, got[1].Fields, map[string]any{"count": int64(2)})
	assert.Assert(t, strings.Contains(text.String(), "unreadable") && !strings.Contains(text.String(), "ready"), "the next handler's level is its own")
}

func TestLog_KeepsTheNewestAndTellsWhatWasMissed(t *testing.T) {
	events, log, _ := logger(3)
	for i := range 5 {
		log.Info(fmt.Sprint("event ", i+1))
	}
	got, _ := events.After(1)
	assert.Equal(t, len(got), 3)
	assert.Equal(t, got[0].Number, uint64(3), "2 is missed")
	got, _ = events.After(5)
	assert.Equal(t, len(got), 0)
}

func TestLog_ListenersSeeEveryEventOnce(t *testing.T) {
	events, log, _ := logger(1000)
	const each = 50
	var writers, readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			seen := uint64(0)
			for seen < 4*each {
				got, newer := events.After(seen)
				for _, e := range got {
					assert.Check(t, e.Number == seen+1)
					seen = e.Number
				}
				if len(got) == 0 {
					<-newer
				}
			}
		})
	}
	for range 4 {
		writers.Go(func() {
			for range each {
				log.Info("x")
			}
		})
	}
	writers.Wait()
	readers.Wait()
}

func TestLog_ValueIsNeverShown(t *testing.T) {
	events, log, _ := logger(10)
	log.Info("careless", "value", secret.NewValue([]byte("canary")))
	got, _ := events.After(0)
	assert.Assert(t, !strings.Contains(fmt.Sprintf("%+v", got[0]), "canary"))
}
