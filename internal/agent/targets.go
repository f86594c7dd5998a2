package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/target"
)

// policyStrict is the configuration's word for a strict policy.
const policyStrict = "strict"

// targetsOf turns the secrets of the configuration into rules.
func targetsOf(c *config.Config) target.Rules {
	rs := target.Rules{Strict: c.Agent.Policy == policyStrict}
	for _, s := range c.Secrets {
		r := target.Rule{
			Name: s.Name, Containers: s.Targets.Containers, Labels: s.Targets.Labels, References: referencesOf(s), Settings: settingsOf(s.Rotation),
		}
		for i := range r.References {
			r.References[i].Hold = holdOf(s.Rotation)
		}
		rs.Rules = append(rs.Rules, r)
	}
	return rs
}

// settingsOf returns what counts where a container has no label of that name.
func settingsOf(r config.Rotation) map[string]string {
	settings := map[string]string{label.Health: r.HealthCheckTimeout.String()}
	if r.Strategy != label.Auto {
		settings[label.Strategy] = r.Strategy
	}
	if r.Signal != "" {
		settings[label.Signal] = r.Signal
	}
	if r.Exec != "" {
		settings[label.Exec] = r.Exec
	}
	return settings
}

// holdOf returns nil when nothing holds the secret's changes back that does not hold
// back all.
func holdOf(r config.Rotation) *target.Hold {
	if r.Enabled && r.Window == (config.Window{}) {
		return nil
	}
	return &target.Hold{Off: !r.Enabled, Cron: r.Window.Cron, Length: r.Window.Duration}
}

func referencesOf(s config.Secret) []target.Reference {
	scheme, options := "dso://", ""
	if s.Inject.Type == "file" {
		scheme = "dsofile://"
		var set []string
		if s.Inject.UID >= 0 {
			set = append(set, fmt.Sprintf("uid=%d", s.Inject.UID))
		}
		if s.Inject.GID >= 0 {
			set = append(set, fmt.Sprintf("gid=%d", s.Inject.GID))
		}
		if s.Inject.Path != "" {
			set = append(set, "path="+s.Inject.Path)
		}
		if len(set) > 0 {
			options = "?" + strings.Join(set, "&")
		}
	}
	if len(s.Mappings) == 0 {
		return []target.Reference{{Variable: variableOf(s.Name), Ref: scheme + s.Provider + "/" + s.Name + options}}
	}
	var refs []target.Reference
	for _, variable := range slices.Sorted(maps.Keys(s.Mappings)) {
		path, field, hasField := strings.Cut(strings.TrimPrefix(s.Mappings[variable], "dso://"), "#")
		ref := scheme + path + options
		if hasField {
			ref += "#" + field
		}
		refs = append(refs, target.Reference{Variable: variable, Ref: ref})
	}
	return refs
}

// variableOf names the variable of a secret without mappings: APP_DB for app/db.
func variableOf(name string) string {
	v := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	if v[0] >= '0' && v[0] <= '9' {
		v = "_" + v
	}
	return v
}
