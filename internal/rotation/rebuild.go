package rotation

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// label is what a replacement carries of its rotation: the entry without what the
// containers themselves tell.
func (e *Entry) label() (string, error) {
	lean := *e
	lean.Original, lean.Reasons, lean.NewContainerID = engine.Container{}, nil, ""
	lean.Step, lean.Status, lean.ErrorMessage = "", "", ""
	data, err := json.Marshal(lean)
	return string(data), err
}

// Rebuild tells from the containers alone which rotations are not finished, for
// a journal that was lost. It is pure. The entries begin again at the first step:
// what is done already is found to be so.
//
// A name alone proves nothing: a container counts only when it carries the entry
// of the rotation that made it, and that rotation's replacement still has its
// intermediate name, or its original has the backup name.
func Rebuild(containers []engine.Container) []Entry {
	var entries []Entry
	for _, c := range containers {
		var e Entry
		text := c.Label(label.Entry)
		if text == "" || json.Unmarshal([]byte(text), &e) != nil || e.ID != c.Label(label.Rotation) || e.Strategy != Rolling || e.Phase != Forward {
			continue
		}
		i := slices.IndexFunc(containers, func(o engine.Container) bool { return o.ID == e.OriginalContainerID })
		if c.Name != e.NewName && (i < 0 || containers[i].Name != e.BackupName) {
			continue
		}
		e.NewContainerID = c.ID
		e.Original = c
		if i >= 0 {
			e.Original = containers[i]
		}
		if hc := e.Original.Spec.HostConfig; hc != nil && c.Spec.HostConfig != nil { // the original may be parked
			copied := *hc
			copied.RestartPolicy = c.Spec.HostConfig.RestartPolicy
			e.Original.Spec.HostConfig = &copied
		}
		e = e.Rebuilt(e.StartTime)
		if e.check() == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// Rebuilt is a rotation that began then and that the journal does not know. It begins
// again at its first step.
func (e Entry) Rebuilt(began time.Time) Entry {
	e.Step, e.Status, e.StartTime = e.first(), StatusInProgress, began
	e.Reasons = []string{"rebuilt from the labels and pins of the containers"}
	return e
}
