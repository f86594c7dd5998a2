package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/durable"
)

const (
	overlayDir  = ".dso"
	overlayFile = "compose.yaml"
)

// isOverlay reports whether a file is one that [WriteOverlay] writes.
func isOverlay(file string) bool {
	return filepath.Base(file) == overlayFile && filepath.Base(filepath.Dir(file)) == overlayDir
}

// WriteOverlay writes the overlay to .dso/compose.yaml in the project's working
// directory, kept out of git, and returns its absolute path. An identical file
// is left alone.
func WriteOverlay(p *Project, text []byte) (string, error) {
	dir := filepath.Join(p.WorkingDir, overlayDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	path := filepath.Join(dir, overlayFile)
	for file, content := range map[string][]byte{filepath.Join(dir, ".gitignore"): []byte("*\n"), path: text} {
		if err := writeChanged(file, content); err != nil {
			return "", fmt.Errorf("write overlay: %w", err)
		}
	}
	return path, nil
}

func writeChanged(file string, content []byte) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && bytes.Equal(old, content) {
		return nil
	}
	return durable.WriteFile(file, content, 0o644)
}

// The parts of the overlay, in the order in which they are written.
type (
	overlay struct {
		Services map[string]any `yaml:"services"`
		Jobs     map[string]any `yaml:"jobs,omitempty"`
	}

	service struct {
		Runtime    string                `yaml:"runtime,omitempty"`
		Ports      any                   `yaml:"ports,omitempty"`
		Labels     map[string]string     `yaml:"labels,omitempty"`
		DependsOn  map[string]dependency `yaml:"depends_on,omitempty"`
		Links      overrideTag           `yaml:"links,omitempty"`
		MacAddress any                   `yaml:"mac_address,omitempty"`
		Networks   map[string]any        `yaml:"networks,omitempty"`
	}

	dependency struct {
		Condition string `yaml:"condition"`
		Restart   bool   `yaml:"restart"`
		Required  bool   `yaml:"required"`
	}

	frontService struct {
		Image       string                    `yaml:"image"`
		PullPolicy  string                    `yaml:"pull_policy"`
		Profiles    []string                  `yaml:"profiles,omitempty"`
		Restart     string                    `yaml:"restart"`
		ReadOnly    bool                      `yaml:"read_only"`
		User        string                    `yaml:"user"`
		CapDrop     []string                  `yaml:"cap_drop"`
		CapAdd      []string                  `yaml:"cap_add"`
		SecurityOpt []string                  `yaml:"security_opt"`
		CPUShares   int                       `yaml:"cpu_shares"`
		Sysctls     map[string]string         `yaml:"sysctls"`
		Labels      map[string]string         `yaml:"labels"`
		Environment map[string]string         `yaml:"environment"`
		Volumes     []bindMount               `yaml:"volumes"`
		Ports       []types.ServicePortConfig `yaml:"ports,omitempty"`
		MacAddress  string                    `yaml:"mac_address,omitempty"`
		Networks    map[string]network        `yaml:"networks,omitempty"`
	}

	bindMount struct {
		Type     string          `yaml:"type"`
		Source   string          `yaml:"source"`
		Target   string          `yaml:"target"`
		ReadOnly bool            `yaml:"read_only"`
		Bind     map[string]bool `yaml:"bind"`
	}

	network struct {
		Aliases         []string `yaml:"aliases,omitempty"`
		Ipv4Address     string   `yaml:"ipv4_address,omitempty"`
		Ipv6Address     string   `yaml:"ipv6_address,omitempty"`
		MacAddress      string   `yaml:"mac_address,omitempty"`
		Priority        int      `yaml:"priority,omitempty"`
		GatewayPriority int      `yaml:"gw_priority,omitempty"`
	}

	// resetTag is Compose's way to take away what an earlier file has set.
	resetTag struct{}

	// overrideTag is its way to replace a list instead of adding to it.
	overrideTag []string
)

// MarshalYAML implements [yaml.Marshaler].
func (resetTag) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!reset", Style: yaml.TaggedStyle | yaml.FlowStyle}, nil
}

// MarshalYAML implements [yaml.Marshaler].
func (o overrideTag) MarshalYAML() (any, error) {
	var n yaml.Node
	if err := n.Encode([]string(o)); err != nil {
		return nil, err
	}
	n.Tag, n.Style = "!override", yaml.TaggedStyle
	return &n, nil
}

const overlayHead = "# Written by DSO from the Compose files of this project, and written again at\n" +
	"# every \"docker dso up\". Changes here are lost.\n"

// encode writes the overlay, with every dollar sign doubled: Compose expands
// variables in this file as in any other.
func encode(out overlay) ([]byte, error) {
	var doc yaml.Node
	if err := doc.Encode(out); err != nil {
		return nil, fmt.Errorf("encode overlay: %w", err)
	}
	escape(&doc)
	var text bytes.Buffer
	text.WriteString(overlayHead)
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("encode overlay: %w", err)
	}
	return text.Bytes(), nil
}

func escape(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Value = strings.ReplaceAll(n.Value, "$", "$$")
	}
	for _, child := range n.Content {
		escape(child)
	}
}

// WrittenOverlay returns the path of an overlay that was written before.
func WrittenOverlay(p *Project) (string, bool) {
	path := filepath.Join(p.WorkingDir, overlayDir, overlayFile)
	_, err := os.Stat(path)
	return path, err == nil
}

// UsesReferences reports whether any active service holds a reference.
func UsesReferences(p *Project) bool {
	return slices.ContainsFunc(p.Services(), func(s Service) bool { return len(s.References) > 0 })
}
