package frontmap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/docker-secret-operator/dso/internal/durable"
)

const (
	// File is the name of the map inside a front's directory.
	File = "map.json"
	// NextFile is that of the map that is expected to come next.
	NextFile = "next.json"
	// Format is the only layout this program writes and reads.
	Format = 1

	maxTargets = 256     // far above what one service on one host has
	maxName    = 253     // bytes: what a DNS name can carry
	maxSize    = 1 << 17 // bytes: maxTargets names and their quotes
)

// ErrInvalid is wrapped by every error about what a map says, as opposed to
// whether it could be read.
var ErrInvalid = errors.New("invalid map")

// Map is an order to a front: send new connections to these containers.
type Map struct {
	Format     int      `json:"format"`
	Generation uint64   `json:"generation"` // counts up from 1; 0 means that there was none
	Targets    []string `json:"targets"`    // container names or short ids, never addresses
}

// Load reads the map in dir. The error wraps fs.ErrNotExist when there is none
// and ErrInvalid when it is not a map of this format.
func Load(dir string) (Map, error) { return load(filepath.Join(dir, File)) }

// LoadNext reads the map that was announced in dir, with errors like those of [Load].
func LoadNext(dir string) (Map, error) { return load(filepath.Join(dir, NextFile)) }

func load(path string) (Map, error) {
	f, err := os.Open(path)
	if err != nil {
		return Map{}, fmt.Errorf("load map: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Map{}, fmt.Errorf("load map: %w", err)
	}
	m, err := Parse(data)
	if err != nil {
		return Map{}, fmt.Errorf("load map %s: %w", path, err)
	}
	return m, nil
}

// Store puts m in place in dir, durably and in one step, and creates dir. Both
// are readable by everyone, whatever the umask: with user namespaces the front's
// root is not the host's. The error wraps ErrInvalid when Load would not take m.
func Store(dir string, m Map) error { return store(dir, File, m) }

// Announce puts m beside the map, for [Advance]. A front then looks for its targets, and
// does nothing else with it.
func Announce(dir string, m Map) error { return store(dir, NextFile, m) }

// Advance makes the map that was announced the map: its content is durable already, so that a
// front sees it one rename later. That it is the map is durable after [Settle].
func Advance(dir string) error {
	return durable.RenameUnsynced(filepath.Join(dir, NextFile), filepath.Join(dir, File))
}

// Settle makes sure that what was advanced is still the map after a power cut.
func Settle(dir string) error { return durable.SyncDir(dir) }

// Withdraw takes back what was announced, if anything was.
func Withdraw(dir string) error {
	path := filepath.Join(dir, NextFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return durable.Remove(path)
}

func store(dir, name string, m Map) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("store map in %s: %w", dir, err)
	}
	if m.Targets == nil {
		m.Targets = []string{}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("store map in %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("store map: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("store map: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o644)
}

// Parse decodes the content of a map file. Its errors wrap ErrInvalid.
func Parse(data []byte) (Map, error) {
	if len(data) > maxSize {
		return Map{}, fmt.Errorf("%w: larger than %d bytes", ErrInvalid, maxSize)
	}
	var m Map
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Map{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Map{}, fmt.Errorf("%w: something follows the map", ErrInvalid)
	}
	if m.Targets == nil { // "refuse" must be said, not left out
		return Map{}, fmt.Errorf("%w: no list of targets", ErrInvalid)
	}
	if err := m.validate(); err != nil {
		return Map{}, err
	}
	return m, nil
}

func (m Map) validate() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("%w: format %d, this program knows %d", ErrInvalid, m.Format, Format)
	case m.Generation == 0:
		return fmt.Errorf("%w: generation 0", ErrInvalid)
	case len(m.Targets) > maxTargets:
		return fmt.Errorf("%w: %d targets, at most %d", ErrInvalid, len(m.Targets), maxTargets)
	}
	for _, t := range m.Targets {
		if err := ValidTarget(t); err != nil {
			return err
		}
	}
	return nil
}

// ValidTarget says whether name can stand in a map: Docker's alphabet for
// container names, and not an address. Its error wraps ErrInvalid.
func ValidTarget(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: target of %d bytes", ErrInvalid, len(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("%w: target %s is an address; name the container", ErrInvalid, name)
	}
	for i, c := range []byte(name) {
		if !alphanumeric(c) && (i == 0 || c != '-' && c != '_' && c != '.') {
			return fmt.Errorf("%w: target %q is not a container name", ErrInvalid, name)
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
