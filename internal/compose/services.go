package compose

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Service is one active service of a project.
type Service struct {
	Name       string
	References []Reference // by variable
}

// Reference is a variable whose value is a reference. It stands in the
// environment of the service or of one of its hooks: a hook runs in a container
// with the service's runtime, so its references are resolved too.
type Reference struct {
	Variable string
	Ref      secret.Ref
}

// Services returns the active services in order, also those that have no
// reference. A service is active when its profile is.
func (p *Project) Services() []Service { return slices.Clone(p.services) }

// services finds the references. Its error joins one for each malformed
// reference, with service and variable.
func services(model *types.Project) ([]Service, error) {
	var found []Service
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(model.Services)) {
		refs, err := references(environments(model.Services[name])...)
		if err != nil {
			errs = append(errs, inService("service "+name, err))
		}
		found = append(found, Service{Name: name, References: refs})
	}
	for _, name := range slices.Sorted(maps.Keys(model.Jobs)) {
		if _, err := references(model.Jobs[name].Environment); err != nil {
			errs = append(errs, inService("job "+name, err))
		}
	}
	return found, errors.Join(errs...)
}

// environments returns those of the service and of its hooks.
func environments(s types.ServiceConfig) []types.MappingWithEquals {
	all := []types.MappingWithEquals{s.Environment}
	for _, h := range s.PreStart {
		all = append(all, h.Environment)
	}
	for _, h := range slices.Concat(s.PostStart, s.PreStop) {
		all = append(all, h.Environment)
	}
	return all
}

// references returns what is a reference in environments, by variable, each
// once. Its error joins one for each that is malformed.
func references(envs ...types.MappingWithEquals) ([]Reference, error) {
	var refs []Reference
	var errs []error
	for _, env := range envs {
		for variable, value := range env {
			if value == nil || !secret.IsRef(*value) {
				continue
			}
			ref, err := secret.ParseRef(*value)
			if err != nil {
				errs = append(errs, at("variable "+variable, err))
				continue
			}
			refs = append(refs, Reference{Variable: variable, Ref: ref})
		}
	}
	slices.SortFunc(refs, func(a, b Reference) int {
		if c := strings.Compare(a.Variable, b.Variable); c != 0 {
			return c
		}
		return strings.Compare(a.Ref.String(), b.Ref.String())
	})
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return slices.Compact(refs), errors.Join(errs...)
}

// inService names the service before each of joined errors.
func inService(service string, err error) error {
	var errs []error
	for _, e := range parts(err) {
		errs = append(errs, at(service, e))
	}
	return errors.Join(errs...)
}

// hasSecrets reports whether the named service is active and has references, or a label
// that names secrets of the agent's configuration.
func (p *Project) hasSecrets(name string) bool {
	return slices.ContainsFunc(p.services, func(s Service) bool {
		return s.Name == name && (len(s.References) > 0 || p.model.Services[name].Labels[label.Secrets] != "")
	})
}
