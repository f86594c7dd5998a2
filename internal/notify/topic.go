package notify

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/internal/eventlog"
)

// own is what the messages of this package begin with: they are no events for others.
const own = "notification "

// topicOf says what an event is about, in the words of config.Topics, or "" when nobody
// is told of it.
func topicOf(e eventlog.Event) string {
	switch topic, known := topics[e.Message]; {
	case strings.HasPrefix(e.Message, own):
		return ""
	case e.Message == "rotation ended":
		if e.Fields["outcome"] == "rotated" {
			return "rotation"
		}
		return "rotation_failed"
	case known:
		return topic
	case e.Level >= slog.LevelError:
		return "error"
	}
	return ""
}

// wants reports whether a destination is told of an event about a topic. Who wants errors
// is told of all of them, whatever they are about.
func (d Destination) wants(topic string, e eventlog.Event) bool {
	return topic != "" && (slices.Contains(d.Topics, topic) || e.Level >= slog.LevelError && slices.Contains(d.Topics, "error"))
}

// topics are the messages of the agent's log that are about something in particular. A
// test makes sure that each of them is still said.
var topics = map[string]string{
	"rotation needs a person":                                                         "rotation_failed",
	"rotation not carried on":                                                         "rotation_failed",
	"rotation turns back":                                                             "rotation_failed",
	"CRITICAL: Original container is missing":                                         "rotation_failed",
	"container cannot be rotated":                                                     "rotation_failed",
	"Detected pending rotations, performing automatic recovery":                       "recovery",
	"Automatic recovery completed":                                                    "recovery",
	"provider is not asked for a while: circuit open":                                 "store",
	"provider answers again: circuit closed":                                          "store",
	"container starts with the values it had before: the current ones cannot be read": "stale",
	"values are no longer stale: the store has the same versions":                     "stale",
	"start refused": "refused",
	"agent started": "agent",
	"agent stops":   "agent",
	"configuration cannot be used, the last good one holds": "configuration",
	"configuration taken":                              "configuration",
	"configuration not taken, the last good one stays": "configuration",
	"configuration not read, the last good one stays":  "configuration",
}
