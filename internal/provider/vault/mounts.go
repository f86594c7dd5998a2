package vault

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// location is a path below the mount of an engine.
type location struct {
	mount string
	kv    int // 1 or 2, or kvDatabase
	path  string
}

// mounts remembers which engine is mounted where. A mount that changes its engine
// is noticed when the agent or the provider is made anew.
type mounts struct {
	fixed string // from the configuration
	kv    int

	mu    sync.Mutex
	known map[string]int  // version by mount
	only  map[string]bool // mounts whose metadata may not be read
}

func newMounts(fixed string, kv int) *mounts {
	return &mounts{fixed: fixed, kv: kv, known: map[string]int{}, only: map[string]bool{}}
}

func (m *mounts) dataOnly(mount string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.only[mount]
}

func (m *mounts) setDataOnly(mount string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.only[mount] = true
}

// find looks for a known mount that the path lies below.
func (m *mounts) find(full string) (location, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for mount, kv := range m.known { // mounts do not nest
		if path, ok := strings.CutPrefix(full, mount+"/"); ok {
			return location{mount, kv, path}, true
		}
	}
	return location{}, false
}

// locate says where a path lies. The server tells a mount to whoever may use
// something below it.
func (m *mounts) locate(ctx context.Context, c *conn, token, path string) (location, error) {
	if m.fixed != "" && m.kv != 0 {
		return location{m.fixed, m.kv, path}, nil
	}
	full := path
	if m.fixed != "" {
		full = m.fixed + "/" + path
	}
	if at, ok := m.find(full); ok {
		return at, nil
	}
	a, err := c.ask(ctx, token, http.MethodGet, "sys/internal/ui/mounts/"+full, nil)
	if err != nil {
		return location{}, fmt.Errorf("find the mount: %w", err)
	}
	var d struct {
		Type    string            `json:"type"`
		Path    string            `json:"path"`
		Options map[string]string `json:"options"`
	}
	if err := a.data(&d); err != nil {
		return location{}, err
	}
	mount := strings.TrimSuffix(d.Path, "/")
	rest, below := strings.CutPrefix(full, mount+"/")
	switch {
	case mount == "" || !below || rest == "":
		return location{}, fmt.Errorf("%w: it names no mount above the path", provider.ErrMalformed)
	case d.Type != "kv" && d.Type != "generic" && d.Type != "database":
		return location{}, fmt.Errorf("the engine at %s is neither a KV nor a database engine, and no other is read (%w)", mount, provider.ErrPermanent)
	}
	kv := 1
	switch {
	case d.Type == "database":
		kv = kvDatabase
	case d.Options["version"] == "2":
		kv = 2
	}
	m.mu.Lock()
	m.known[mount] = kv
	m.mu.Unlock()
	return location{mount, kv, rest}, nil
}
