package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/label"
)

// FrontFor decides whether a service gets a front, which is to say whether it
// can and shall be rotated with two containers at once while others keep
// reaching it under one name and address. The reasons are for people: why it
// has one (who connects to it), or why not.
//
// A service that asks for rolling gets its wish whatever it writes to; the
// error says when even so no front can stand before it.
func FrontFor(p *Project, service string) (need bool, reasons []string, err error) {
	s, ok := p.model.Services[service]
	if !ok {
		return false, nil, fmt.Errorf("service %s: no such active service", service)
	}
	if err := checkLabels("service "+service, s.Labels); err != nil {
		return false, nil, err
	}
	strategy := strategyOf(s.Labels)
	switch {
	case !p.hasSecrets(service):
		return false, []string{"has no secret reference"}, nil
	case s.Labels[label.Reloader] == "false":
		return false, []string{label.Reloader + " is false"}, nil
	case strategy != label.Auto && strategy != label.Rolling:
		return false, []string{fmt.Sprintf("its strategy is %s", strategy)}, nil
	}
	if strategy == label.Rolling {
		if s.NetworkMode != "" {
			return false, nil, at("service "+service, fmt.Errorf("%s %s is not possible with network_mode %s: "+
				"two of its containers would use the same ports of one network stack, use %s instead",
				label.Strategy, label.Rolling, s.NetworkMode, label.Restart))
		}
	} else if hindrances := p.hindrances(s); len(hindrances) > 0 {
		return false, hindrances, nil
	}
	users := p.users(s)
	if len(users) == 0 {
		return false, []string{"nothing connects to it: no ports, no expose, no service depends on it"}, nil
	}
	return true, users, nil
}

// users says who connects to the service.
func (p *Project) users(s types.ServiceConfig) []string {
	var users []string
	for _, port := range s.Ports {
		users = append(users, "publishes port "+portText(port))
	}
	for _, port := range s.Expose {
		users = append(users, "exposes port "+port)
	}
	for _, name := range slices.Sorted(maps.Keys(p.model.Services)) {
		other := p.model.Services[name]
		// A link is a dependency too, once Compose has normalised the model.
		if slices.ContainsFunc(other.Links, func(l string) bool { return linkedService(l) == s.Name }) {
			users = append(users, name+" links to it")
		} else if _, ok := other.DependsOn[s.Name]; ok {
			users = append(users, name+" depends on it")
		}
	}
	return users
}

// linkedService returns the service of a link, service[:alias].
func linkedService(link string) string {
	service, _, _ := strings.Cut(link, ":")
	return service
}

// hindrances says what forbids two containers of the service at once.
func (p *Project) hindrances(s types.ServiceConfig) []string {
	var why []string
	for _, v := range s.Volumes {
		if text, ok := writesTo(v); ok {
			why = append(why, text)
		}
	}
	for _, from := range s.VolumesFrom {
		why = append(why, "uses the volumes of "+from)
	}
	why = append(why, fixedAddresses(s)...)
	if s.NetworkMode != "" {
		why = append(why, "has network_mode "+s.NetworkMode)
	}
	for _, d := range s.Devices {
		why = append(why, "uses device "+d.Source)
	}
	if len(s.Gpus) > 0 || reservesDevices(s) {
		why = append(why, "uses reserved devices (gpus)")
	}
	return append(why, p.tenants(s.Name)...)
}

// writesTo describes a mount that two containers must not write to at once.
// What lies in a tmpfs or comes from an image belongs to one container.
func writesTo(v types.ServiceVolumeConfig) (string, bool) {
	if v.ReadOnly || v.Type == types.VolumeTypeTmpfs || v.Type == types.VolumeTypeImage {
		return "", false
	}
	switch {
	case v.Source == "":
		return "writes to an anonymous volume at " + v.Target, true
	case v.Type == types.VolumeTypeBind:
		return fmt.Sprintf("writes to host path %s at %s", v.Source, v.Target), true
	}
	return fmt.Sprintf("writes to %s %s at %s", v.Type, v.Source, v.Target), true
}

func fixedAddresses(s types.ServiceConfig) []string {
	var why []string
	if s.MacAddress != "" {
		why = append(why, "has a fixed MAC address")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		n := s.Networks[name]
		if n == nil {
			continue
		}
		for _, address := range []string{n.Ipv4Address, n.Ipv6Address} {
			if address != "" {
				why = append(why, fmt.Sprintf("has the fixed address %s on network %s", address, name))
			}
		}
		if n.MacAddress != "" {
			why = append(why, "has a fixed MAC address on network "+name)
		}
	}
	return why
}

func reservesDevices(s types.ServiceConfig) bool {
	return s.Deploy != nil && s.Deploy.Resources.Reservations != nil && len(s.Deploy.Resources.Reservations.Devices) > 0
}

// tenants names the services that live in a namespace of the named one: they
// would stay behind in the old container's.
func (p *Project) tenants(name string) []string {
	var why []string
	for _, other := range slices.Sorted(maps.Keys(p.model.Services)) {
		s := p.model.Services[other]
		for _, mode := range []string{s.NetworkMode, s.Ipc, s.Pid} {
			if mode == types.ServicePrefix+name {
				why = append(why, fmt.Sprintf("%s lives in a namespace of it", other))
				break
			}
		}
	}
	return why
}

func portText(p types.ServicePortConfig) string {
	text := fmt.Sprintf("%d/%s", p.Target, p.Protocol)
	if p.Published != "" {
		text = p.Published + ":" + text
	}
	if p.HostIP != "" {
		text = p.HostIP + ":" + text
	}
	return text
}
