package deliver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Pin makes a container keep certain versions.
type Pin struct {
	Versions secret.Versions `json:"versions"`
	// Failed are the versions that did not pass the health gate. They are not
	// tried again by themselves; any other version is.
	Failed secret.Versions `json:"failed,omitempty"`
	// Try says that nobody knows yet whether the container works with Versions: it is a
	// replacement. Without them it is not started.
	Try bool `json:"try,omitempty"`
	// Before are the versions that a change in place, which is not over, goes from.
	Before secret.Versions `json:"before,omitempty"`
	Since  time.Time       `json:"since"`
	// By is the person who asked for it. Such a pin outlives every change of a secret;
	// a rotation that a person asks for ends it.
	By string `json:"by,omitempty"`
}

// yields reports whether the container may have others, current, when nobody has its versions
// any more. It may not when it is about these versions, a person wants no others, or what is
// current has something that is known not to work.
func (p Pin) yields(current secret.Versions) bool {
	if len(p.Versions) == 0 || p.Try || len(p.Before) > 0 || p.By != "" {
		return false
	}
	for id, bad := range p.Failed {
		if bad != p.Versions[id] && current[id] == bad {
			return false
		}
	}
	return true
}

// pins is the durable set of pins, by container id.
type pins struct {
	path string

	mu  sync.Mutex
	set map[string]Pin
}

// openPins reads the pins. With a [*durable.CorruptError] they are usable.
func openPins(path string, now time.Time) (*pins, error) {
	p := &pins{path: path, set: map[string]Pin{}}
	err := durable.LoadState(path, now, func(data []byte) error {
		var set map[string]Pin
		if err := json.Unmarshal(data, &set); err != nil {
			return err
		}
		if set == nil {
			return errors.New("it holds no JSON object")
		}
		p.set = set
		return nil
	})
	return p, err
}

func (p *pins) get(id string) (Pin, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pin, ok := p.set[id]
	return pin, ok
}

func (p *pins) failed() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pin := range p.set {
		if len(pin.Failed) > 0 {
			n++
		}
	}
	return n
}

func (p *pins) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.set))
}

// assigned returns the pins of the changes in place that are not over.
func (p *pins) assigned() map[string]Pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]Pin{}
	for id, pin := range p.set {
		if len(pin.Before) > 0 {
			out[id] = pin
		}
	}
	return out
}

func (p *pins) versions() []secret.Versions {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []secret.Versions
	for _, pin := range p.set {
		all = append(all, pin.Versions, pin.Before)
	}
	return all
}

// keep pins a container for a person. It does nothing to one that a rotation has pinned.
func (p *pins) keep(id string, versions secret.Versions, by string, now time.Time) (kept bool, err error) {
	err = p.change(func(set map[string]Pin) {
		pin, pinned := set[id]
		if kept = !pinned || len(pin.Failed) > 0 || pin.By != ""; kept {
			set[id] = Pin{Versions: versions, Failed: pin.Failed, By: by, Since: now}
		}
	})
	return kept, err
}

func (p *pins) put(id string, pin Pin) error {
	return p.change(func(set map[string]Pin) { set[id] = pin })
}

// letGo takes back what a person asked for, and reports whether somebody had. Versions
// that failed before stay failed.
func (p *pins) letGo(id string) (was bool, err error) {
	err = p.change(func(set map[string]Pin) {
		pin := set[id]
		if was = pin.By != ""; !was {
			return
		}
		if pin.By = ""; len(pin.Failed) > 0 {
			set[id] = pin
		} else {
			delete(set, id)
		}
	})
	return was, err
}

func (p *pins) drop(id string) error {
	if _, ok := p.get(id); !ok {
		return nil
	}
	return p.change(func(set map[string]Pin) { delete(set, id) })
}

func (p *pins) change(edit func(map[string]Pin)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := maps.Clone(p.set)
	edit(next)
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode pins: %w", err)
	}
	if err := durable.SaveState(p.path, data); err != nil {
		return err
	}
	p.set = next
	return nil
}
