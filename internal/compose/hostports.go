package compose

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/label"
)

// hostPorts returns the ports that the label dso.host_ports of a service claims, in
// the words of Compose's own ports: "3306:3306,127.0.0.1:8080:80/tcp".
func hostPorts(s types.ServiceConfig) ([]types.ServicePortConfig, error) {
	var ports []types.ServicePortConfig
	for text := range strings.SplitSeq(s.Labels[label.HostPorts], ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		parsed, err := types.ParsePortConfig(text)
		if err == nil && slices.ContainsFunc(parsed, func(p types.ServicePortConfig) bool { return p.Published == "" }) {
			err = errors.New("it names no port of the host")
		}
		if err != nil {
			return nil, at("service "+s.Name, fmt.Errorf("label %s: %q is not a port such as 127.0.0.1:8080:80/tcp: %w", label.HostPorts, text, err))
		}
		ports = append(ports, parsed...)
	}
	return ports, nil
}

// Claim is a port of the host that a service claims, by its ports or its label.
type Claim struct {
	Service string
	Host    string // an address; empty: any
	Number  uint16
	Proto   string
}

// Claims lists the ports of the host that the services with references claim. A range
// for the engine to choose from, and a port that it chooses, are not among them. Two
// services that claim the same port are an error that names both.
func Claims(p *Project) ([]Claim, error) {
	var all, ours []Claim
	for _, name := range slices.Sorted(maps.Keys(p.model.Services)) {
		for _, port := range p.model.Services[name].Ports {
			n, err := strconv.ParseUint(port.Published, 10, 16)
			if err != nil || n == 0 {
				continue
			}
			c := Claim{Service: name, Host: port.HostIP, Number: uint16(n), Proto: port.Protocol}
			if i := slices.IndexFunc(all, c.conflicts); i >= 0 {
				if all[i].Service == name {
					return nil, fmt.Errorf("service %s claims port %d/%s of the host twice: remove one of them from its ports, or from its label %s", name, n, c.Proto, label.HostPorts)
				}
				return nil, fmt.Errorf("services %s and %s both claim port %d/%s of the host: give one of them another", all[i].Service, name, n, c.Proto)
			}
			all = append(all, c)
			if p.hasSecrets(name) {
				ours = append(ours, c)
			}
		}
	}
	return ours, nil
}

func (c Claim) conflicts(o Claim) bool {
	return c.Number == o.Number && c.Proto == o.Proto && overlap(c.Host, o.Host)
}

// overlap reports whether two addresses of the host have one in common: none stands for
// all, an unspecified one for those of its family.
func overlap(one, other string) bool {
	a, err := netip.ParseAddr(one)
	if err != nil {
		return true
	}
	b, err := netip.ParseAddr(other)
	return err != nil || a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
