package compose

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/label"
)

// Runtime is the name under which the OCI runtime that resolves references is
// registered in the engine.
const Runtime = "dso"

const (
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

// Overlay returns the YAML text of the model file that is loaded after the
// user's files. It is the same for the same project. The error joins one for
// each service that cannot be served: a runtime of its own, a label that does
// not exist, a strategy that is not possible, a name that is taken.
func Overlay(p *Project, opts OverlayOptions) ([]byte, error) {
	out := overlay{Services: map[string]any{}, Jobs: map[string]any{}}
	var errs []error
	for _, s := range p.services {
		errs = append(errs, p.lay(s.Name, opts, out.Services))
	}
	p.relink(out.Services)
	for _, name := range slices.Sorted(maps.Keys(p.model.DisabledServices)) {
		errs = append(errs, p.layDisabled(name, out.Services))
	}
	for _, name := range slices.Sorted(maps.Keys(p.model.Jobs)) {
		errs = append(errs, p.layJob(name, out.Jobs))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return encode(out)
}

// Publishing lists the services whose ports their front publishes.
func Publishing(p *Project) []string {
	var names []string
	for _, s := range p.services {
		if need, _, err := FrontFor(p, s.Name); err == nil && need && len(p.model.Services[s.Name].Ports) > 0 {
			names = append(names, s.Name)
		}
	}
	return names
}

// lay adds what a service needs to the overlay's services.
func (p *Project) lay(name string, opts OverlayOptions, out map[string]any) error {
	s := p.model.Services[name]
	if of, ok := s.Labels[label.FrontService]; ok {
		return at("service "+name, fmt.Errorf("it is the generated front of %s: leave the generated file out of include and extends", of))
	}
	need, _, err := FrontFor(p, name)
	if err != nil || !p.hasSecrets(name) {
		return err
	}
	fronted, err := p.resolved("service "+name, s.Runtime)
	if err != nil {
		return err
	}
	maps.Copy(fronted.Labels, p.adopted[name])
	out[name] = fronted
	if !need {
		if ports := p.claimed[name]; len(ports) > 0 {
			fronted.Ports = ports
		}
		return nil
	}
	front := FrontName(name)
	if p.nameTaken(front) {
		return at("service "+name, fmt.Errorf("its front would be called %s, but a service has that name: rename that service", front))
	}
	fronted.Labels[label.Front] = front
	fronted.Ports = resetTag{}
	fronted.DependsOn = map[string]dependency{front: {Condition: types.ServiceConditionStarted, Restart: false, Required: true}}
	fronted.giveUpAddresses(s)
	out[front] = p.front(s, opts)
	return nil
}

// resolved is the part of a service or job that has its references resolved.
func (p *Project) resolved(name, runtime string) (*service, error) {
	if runtime != "" && runtime != Runtime {
		return nil, at(name, fmt.Errorf("it has secret references and runtime %q: references are resolved by runtime %q only, remove one of them", runtime, Runtime))
	}
	s := &service{Runtime: Runtime, Labels: map[string]string{}}
	if len(p.ConfigFiles) > 0 {
		s.Labels[label.ComposePath] = p.ConfigFiles[0]
	}
	return s, nil
}

// layDisabled gives a service of another profile its runtime, for the day when
// somebody starts that profile with plain docker compose. Its env_files were
// not read, and what is wrong with it does not matter yet, except a label.
func (p *Project) layDisabled(name string, out map[string]any) error {
	s := p.model.DisabledServices[name]
	if refs, err := references(environments(s)...); err == nil && (len(refs) > 0 || s.Labels[label.Secrets] != "") {
		if r, err := p.resolved("service "+name, s.Runtime); err == nil {
			out[name] = r
		}
	}
	return checkLabels("service "+name, s.Labels)
}

// layJob gives a job its runtime. A job runs to its end and is never rotated.
func (p *Project) layJob(name string, out map[string]any) error {
	j := p.model.Jobs[name]
	if refs, err := references(j.Environment); err != nil || len(refs) == 0 {
		return nil // what is malformed was said when the project was loaded
	}
	r, err := p.resolved("job "+name, j.Runtime)
	if err == nil {
		out[name] = r
	}
	return err
}

// relink turns links to a fronted service into links to its front: a link is
// resolved once, to a container, and would pass the front by.
func (p *Project) relink(out map[string]any) {
	for name, s := range p.model.Services {
		var links overrideTag
		dependsOn := map[string]dependency{}
		for _, link := range s.Links {
			target, alias, ok := strings.Cut(link, ":")
			if !ok {
				alias = target
			}
			if _, fronted := out[FrontName(target)].(*frontService); fronted {
				link = FrontName(target) + ":" + alias
				d := s.DependsOn[target]
				dependsOn[target] = dependency{Condition: d.Condition, Restart: d.Restart, Required: d.Required}
			}
			links = append(links, link)
		}
		if len(dependsOn) == 0 {
			continue
		}
		linking, ok := out[name].(*service)
		if !ok {
			linking = &service{}
			out[name] = linking
		}
		linking.Links = links
		if linking.DependsOn == nil {
			linking.DependsOn = dependsOn
		}
		maps.Copy(linking.DependsOn, dependsOn)
	}
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
		// It has next to nothing to do, and then all wait for it: ten times a container's own share.
		CPUShares: 10240,
		Sysctls: map[string]string{
			"net.ipv4.ip_forward": "1",
			// What a front forwards leaves by the device it came by. The kernel would look up its
			// source, and think of telling the sender a shorter way, for each packet (0039).
			"net.ipv4.conf.all.send_redirects": "0",
			// It looks for a socket of the front itself for each packet, too; there is none.
			"net.ipv4.ip_early_demux": "0",
		},
		Labels:      map[string]string{label.FrontService: s.Name},
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
func (f *service) giveUpAddresses(s types.ServiceConfig) {
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
