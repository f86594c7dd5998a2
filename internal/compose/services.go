package compose

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Service is one active service of a project.
type Service struct {
	Name       string
	References []Reference // by variable
}

// Reference is a variable of a service whose value is a reference.
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
		s := Service{Name: name}
		env := model.Services[name].Environment
		for _, variable := range slices.Sorted(maps.Keys(env)) {
			value := env[variable]
			if value == nil || !secret.IsRef(*value) {
				continue
			}
			ref, err := secret.ParseRef(*value)
			if err != nil {
				errs = append(errs, fmt.Errorf("service %s: variable %s: %w", name, variable, err))
				continue
			}
			s.References = append(s.References, Reference{Variable: variable, Ref: ref})
		}
		found = append(found, s)
	}
	return found, errors.Join(errs...)
}

// hasReferences reports whether the named service is active and has any.
func (p *Project) hasReferences(name string) bool {
	return slices.ContainsFunc(p.services, func(s Service) bool { return s.Name == name && len(s.References) > 0 })
}
