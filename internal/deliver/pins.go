package deliver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
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
	Since  time.Time       `json:"since"`
}

// pins is the durable set of pins, by container id.
type pins struct {
	path string

	mu  sync.Mutex
	set map[string]Pin
}

func openPins(path string) (*pins, error) {
	p := &pins{path: path, set: map[string]Pin{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p.set)
	}
	if err != nil {
		return nil, fmt.Errorf("open pins %s: %w", path, err)
	}
	return p, nil
}

func (p *pins) get(id string) (Pin, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pin, ok := p.set[id]
	return pin, ok
}

func (p *pins) put(id string, pin Pin) error {
	return p.change(func(set map[string]Pin) { set[id] = pin })
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
	if err := durable.WriteFile(p.path, data, 0o600); err != nil {
		return err
	}
	p.set = next
	return nil
}
