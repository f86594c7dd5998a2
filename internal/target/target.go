package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// File is where dso-runtime looks for the rules unless an option says otherwise.
const File = "/var/lib/dso/state/targets.json"

// Reference is a variable with the reference that it holds.
type Reference struct {
	Variable string `json:"variable"`
	Ref      string `json:"ref"`
	// Hold says when a change of the secret may lead to a rotation; nil: as others.
	Hold *Hold `json:"hold,omitempty"`
}

// Hold says when a change of a secret may lead to a rotation by itself.
type Hold struct {
	Off    bool          `json:"off,omitempty"`    // never
	Cron   string        `json:"cron,omitempty"`   // when a window opens, and for how long; see package window
	Length time.Duration `json:"length,omitempty"` // nanoseconds
}

// Rule gives containers references, and settings that count where they have no label
// of that name.
type Rule struct {
	// Name is what containers with the label dso.secrets call it; two may have the same.
	Name string `json:"name,omitempty"`
	// Containers are names, in which * stands for any characters but a slash, of
	// containers or of Compose services as project/service.
	Containers []string `json:"containers,omitempty"`
	// Labels are labels that a container has all of; an empty value is any.
	Labels     map[string]string `json:"labels,omitempty"`
	References []Reference       `json:"references"`
	Settings   map[string]string `json:"settings,omitempty"`
}

// Rules are all of them. The zero value gives nobody anything.
type Rules struct {
	// Strict lets a container read only what a rule gives it, and the secrets of its
	// own Compose project.
	Strict bool   `json:"strict,omitempty"`
	Rules  []Rule `json:"rules,omitempty"`
}

// Container is what the rules are asked about.
type Container struct {
	Name   string
	Labels map[string]string
}

// Given is what rules give one container.
type Given struct {
	References []Reference       `json:"references,omitempty"`
	Settings   map[string]string `json:"settings,omitempty"`
	// Missing are those that the container's label dso.secrets names, and that it is not
	// given. It may not be started without them.
	Missing []string `json:"missing,omitempty"`
}

// Refused returns why the container may not be started, or nil. The caller names it.
func (g Given) Refused() error {
	if len(g.Missing) == 0 {
		return nil
	}
	return fmt.Errorf("label %s names %s, which it is not given: add an entry of that name to `secrets` of dso.yaml (with `agent.policy: strict`, one whose targets name this container), or take the name out of the label",
		labelSecrets, strings.Join(g.Missing, ", "))
}

// For returns what the rules give a container.
func (rs Rules) For(c Container) Given {
	var g Given
	asked := labelled(c)
	missing := slices.Clone(asked)
	for _, r := range rs.Rules {
		// A label is written by whoever writes the specification: it gives nothing that the
		// specification could not name itself.
		called := !rs.Strict && slices.Contains(asked, r.Name)
		if !called && !r.meets(c) {
			continue
		}
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == r.Name })
		for _, ref := range r.References {
			if !slices.ContainsFunc(g.References, func(o Reference) bool { return o.Variable == ref.Variable }) {
				g.References = append(g.References, ref)
			}
		}
		for key, value := range r.Settings {
			if g.Settings == nil {
				g.Settings = map[string]string{}
			}
			if _, there := g.Settings[key]; !there {
				g.Settings[key] = value
			}
		}
	}
	if len(missing) > 0 {
		g.Missing = missing
	}
	return g
}

// labelled are the secrets that a container's label names.
func labelled(c Container) []string {
	return strings.FieldsFunc(c.Labels[labelSecrets], func(r rune) bool { return r == ',' || r == ' ' })
}

// The labels that tell a container's service, and what it asks for.
const (
	labelSecrets = "dso.secrets"
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
)

func (r Rule) meets(c Container) bool {
	names := []string{place(c.Name)}
	if service := c.Labels[labelService]; service != "" {
		names = append(names, c.Labels[labelProject]+"/"+service)
	}
	for _, pattern := range r.Containers {
		if slices.ContainsFunc(names, func(name string) bool { return Match(pattern, name) }) {
			return true
		}
	}
	if len(r.Labels) == 0 {
		return false
	}
	for key, want := range r.Labels {
		has, there := c.Labels[key]
		if !there || want != "" && has != want {
			return false
		}
	}
	return true
}

// Match reports whether a name meets a pattern of a rule.
func Match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// intermediate are the names that a rotation gives the original and its replacement.
var intermediate = regexp.MustCompile(`_dso_(new|backup)_[0-9]+$`)

// place returns the name of the place of a container that a rotation has renamed.
func place(name string) string {
	return intermediate.ReplaceAllString(strings.TrimPrefix(name, "/"), "")
}

// Save writes the rules durably. Without any there is no file, and nothing that could
// be damaged.
func Save(file string, rs Rules) error {
	if len(rs.Rules) == 0 {
		return durable.Remove(file)
	}
	data, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(file, data, 0o600)
}

// Load reads the rules; a missing file is none. A file that cannot be read is an error:
// nobody may be started without what it might be given.
func Load(file string) (Rules, error) {
	var rs Rules
	data, err := durable.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return rs, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &rs)
	}
	if err != nil {
		return Rules{}, fmt.Errorf("read the targets of dso.yaml: %s: %w; a restart of dso-agent writes it anew", file, err)
	}
	return rs, nil
}
