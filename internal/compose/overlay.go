package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Runtime is the name under which the OCI runtime that resolves references is
// registered in the engine.
const Runtime = "dso"

const (
	overlayDir  = ".dso"
	overlayFile = "compose.yaml"

	frontSuffix = "-front"
	frontTarget = "/run/dso-front" // where the front reads its map
)

// OverlayOptions say where the parts of a front come from.
type OverlayOptions struct {
	FrontImage string // an image that the engine already has
	FrontDir   string // absolute directory on the host; each front has a subdirectory
}

// FrontName returns the name of the service that stands before a service.
func FrontName(service string) string { return service + frontSuffix }

// isOverlay reports whether a file is one that [WriteOverlay] writes.
func isOverlay(file string) bool {
	return filepath.Base(file) == overlayFile && filepath.Base(filepath.Dir(file)) == overlayDir
}

// Overlay returns the YAML text of the model file that is loaded after the
// user's files. It is the same for the same project. The error joins one for
// each service that cannot be served: a runtime of its own, a label that does
// not exist, a strategy that is not possible, a name that is taken.
func Overlay(p *Project, opts OverlayOptions) ([]byte, error) {
	out := overlay{Services: map[string]any{}}
	var errs []error
	for _, s := range p.services {
		errs = append(errs, p.lay(s.Name, opts, out.Services))
	}
	for _, name := range slices.Sorted(maps.Keys(p.model.DisabledServices)) {
		errs = append(errs, checkLabels(name, p.model.DisabledServices[name].Labels))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return encode(out)
}

// lay adds what a service needs to the overlay's services.
func (p *Project) lay(name string, opts OverlayOptions, out map[string]any) error {
	s := p.model.Services[name]
	if of, ok := s.Labels[LabelFrontService]; ok {
		return fmt.Errorf("service %s: it is the generated front of %s: leave the generated file out of include and extends", name, of)
	}
	need, _, err := FrontFor(p, name)
	if err != nil || !p.hasReferences(name) {
		return err
	}
	if s.Runtime != "" && s.Runtime != Runtime {
		return fmt.Errorf("service %s: it has secret references and runtime %q: references are resolved by runtime %q only, remove one of them", name, s.Runtime, Runtime)
	}
	fronted := frontedService{Runtime: Runtime, Labels: map[string]string{}}
	if len(p.ConfigFiles) > 0 {
		fronted.Labels[LabelComposePath] = p.ConfigFiles[0]
	}
	out[name] = &fronted
	if !need {
		return nil
	}
	front := FrontName(name)
	if p.nameTaken(front) {
		return fmt.Errorf("service %s: its front would be called %s, but a service has that name: rename that service", name, front)
	}
	fronted.Labels[LabelFront] = front
	fronted.Ports = resetTag{}
	fronted.DependsOn = map[string]dependency{front: {Condition: types.ServiceConditionStarted, Restart: false, Required: true}}
	fronted.giveUpAddresses(s)
	out[front] = p.front(s, opts)
	return nil
}

func (p *Project) nameTaken(name string) bool {
	_, active := p.model.Services[name]
	_, disabled := p.model.DisabledServices[name]
	return active || disabled
}

// front builds the generated service that stands before s.
func (p *Project) front(s types.ServiceConfig, opts OverlayOptions) *frontService {
	f := &frontService{
		Image:       opts.FrontImage,
		PullPolicy:  types.PullPolicyNever,
		Profiles:    s.Profiles,
		Restart:     s.Restart,
		ReadOnly:    true,
		User:        "0",
		CapDrop:     []string{"ALL"},
		CapAdd:      []string{"NET_ADMIN"},
		SecurityOpt: []string{"no-new-privileges:true"},
		Sysctls:     map[string]string{"net.ipv4.ip_forward": "1"},
		Labels:      map[string]string{LabelFrontService: s.Name},
		Environment: map[string]string{"DSO_FRONT_TARGETS": strings.Join(p.containerNames(s), ",")},
		Volumes: []bindMount{{
			Type: types.VolumeTypeBind, Source: filepath.Join(opts.FrontDir, p.Name+"_"+s.Name), Target: frontTarget,
			ReadOnly: true, Bind: map[string]bool{"create_host_path": true},
		}},
		Ports:      s.Ports,
		Networks:   map[string]network{},
		MacAddress: s.MacAddress,
	}
	if f.Restart == "" {
		f.Restart = types.RestartPolicyUnlessStopped
	}
	for name, n := range s.Networks {
		f.Networks[name] = frontNetwork(s.Name, n)
		if enabled := p.model.Networks[name].EnableIPv6; enabled != nil && *enabled {
			f.Sysctls["net.ipv6.conf.all.forwarding"] = "1"
		}
	}
	return f
}

// containerNames are the names under which the containers of s are created, the
// front's fallback while nobody told it which containers are current.
func (p *Project) containerNames(s types.ServiceConfig) []string {
	if s.ContainerName != "" {
		return []string{s.ContainerName}
	}
	names := make([]string, 0, s.GetScale())
	for i := range s.GetScale() {
		names = append(names, strings.Join([]string{p.Name, s.Name, strconv.Itoa(i + 1)}, p.separator))
	}
	return names
}

// frontNetwork moves what others address on a network to the front.
func frontNetwork(service string, n *types.ServiceNetworkConfig) network {
	var out network
	if n.ServiceNameAliasEnabled() {
		out.Aliases = append(out.Aliases, service)
	}
	if n == nil {
		return out
	}
	out.Aliases = append(out.Aliases, n.Aliases...)
	out.Ipv4Address, out.Ipv6Address, out.MacAddress = n.Ipv4Address, n.Ipv6Address, n.MacAddress
	out.Priority, out.GatewayPriority = n.Priority, n.GatewayPriority
	return out
}

// giveUpAddresses resets what only one container can have and the front now has.
func (f *frontedService) giveUpAddresses(s types.ServiceConfig) {
	if s.MacAddress != "" {
		f.MacAddress = resetTag{}
	}
	for name, n := range s.Networks {
		if n == nil {
			continue
		}
		given := map[string]any{}
		for key, address := range map[string]string{"ipv4_address": n.Ipv4Address, "ipv6_address": n.Ipv6Address, "mac_address": n.MacAddress} {
			if address != "" {
				given[key] = resetTag{}
			}
		}
		if len(given) > 0 {
			if f.Networks == nil {
				f.Networks = map[string]any{}
			}
			f.Networks[name] = given
		}
	}
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
	}

	frontedService struct {
		Runtime    string                `yaml:"runtime"`
		Ports      any                   `yaml:"ports,omitempty"`
		Labels     map[string]string     `yaml:"labels,omitempty"`
		DependsOn  map[string]dependency `yaml:"depends_on,omitempty"`
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
)

// MarshalYAML implements [yaml.Marshaler].
func (resetTag) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!reset", Style: yaml.TaggedStyle | yaml.FlowStyle}, nil
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
