package agent

import (
	"maps"
	"slices"

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
	given := s.References()
	refs := make([]target.Reference, 0, len(given))
	for _, variable := range slices.Sorted(maps.Keys(given)) {
		refs = append(refs, target.Reference{Variable: variable, Ref: given[variable]})
	}
	return refs
}
