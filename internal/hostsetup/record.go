package hostsetup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// recordVersion is the form of the record that this version writes.
const recordVersion = 1

// Record is what was done to a host, with what there was before. It is durable before a
// step has an effect.
type Record struct {
	Version int `json:"version"`
	// Complete says that the last setup succeeded. Otherwise it was cut off, and the
	// steps from Begun on are undone first.
	Complete bool `json:"complete"`
	Begun    int  `json:"begun"`
	// MadeState says that the record's own directory was made for it.
	MadeState bool         `json:"made_state"`
	Steps     []Done       `json:"steps"`
	Registers Registration `json:"registration"`
}

// Done is a step that was done, or was about to be.
type Done struct {
	Step
	// Before is the file that was there before; nil: there was none.
	Before *Before `json:"before,omitempty"`
	// Wrote are the hashes of the contents that are ours.
	Wrote []string `json:"wrote,omitempty"`
}

// Before is a file as it was.
type Before struct {
	Content []byte      `json:"content"`
	Mode    fs.FileMode `json:"mode"`
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// loadRecord returns nil when the host was never set up.
func (h *Host) loadRecord() (*Record, error) {
	data, err := durable.Read(h.path(recordPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read the record of the setup, %s: %w", h.path(recordPath), err)
	}
	if r.Version > recordVersion {
		return nil, hinted{fmt.Errorf("%s is of a newer version of DSO", h.path(recordPath)), "use that version's docker dso setup"}
	}
	return &r, nil
}

func (h *Host) saveRecord(r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of the setup: %w", err)
	}
	return durable.WriteFile(h.path(recordPath), append(data, '\n'), 0o600)
}

// openRecord returns the record, and makes the directory for one.
func (h *Host) openRecord() (*Record, error) {
	r, err := h.loadRecord()
	if err != nil || r != nil {
		return r, err
	}
	r = &Record{Version: recordVersion, MadeState: !exists(h.path(stateDir))}
	if err := os.MkdirAll(h.path(stateDir), 0o755); err != nil {
		return nil, err
	}
	return r, nil
}

// made reports whether a step of a kind was done, or begun.
func (r *Record) made(k Kind) bool {
	return r != nil && slices.ContainsFunc(r.Steps, func(d Done) bool { return d.Kind == k })
}

// forgetRecord removes the record, and its directory when that was made for it and
// nothing else is in it.
func (h *Host) forgetRecord(r *Record) error {
	if err := durable.Remove(h.path(recordPath)); err != nil {
		return err
	}
	if r.MadeState {
		_ = os.Remove(h.path(stateDir)) // it stays when there is something in it
	}
	return nil
}

// settle makes the record one of a setup that succeeded: of several steps about one
// file, the first one knows what there was before, and the others only what was written.
func (r *Record) settle() {
	var steps []Done
	for _, d := range r.Steps {
		merged := false
		for i := range steps {
			if steps[i].Kind == d.Kind && steps[i].Path == d.Path && steps[i].Name == d.Name {
				steps[i].Wrote = append(steps[i].Wrote, d.Wrote...)
				merged = true
			}
		}
		if !merged {
			steps = append(steps, d)
		}
	}
	r.Steps, r.Complete = steps, true
	r.Begun = len(steps)
}

func besides(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".before-setup")
}
