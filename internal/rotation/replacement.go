package rotation

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// Replacement returns the specification of a container that takes over from c.
// It is c's own specification but for what must not be there twice or would
// carry c's identity along; every rule below was seen to go wrong without it.
//
// image is the image to make it from: the name the user gave while that still
// means the same image, otherwise the image's id. behindFront leaves out the
// network aliases, which the front owns.
func Replacement(c engine.Container, rotationID, image string, behindFront bool) (engine.Spec, error) {
	spec, err := clone(c.Spec)
	if err != nil {
		return engine.Spec{}, fmt.Errorf("copy the specification of %s: %w", c.Name, err)
	}
	cfg, hc := spec.Config, spec.HostConfig
	if cfg.Hostname == c.ShortID() { // Docker's default
		cfg.Hostname = ""
	}
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	cfg.Labels[label.Rotation] = rotationID
	if image != cfg.Image {
		if cfg.Labels[label.Image] == "" {
			cfg.Labels[label.Image] = cfg.Image
		}
		cfg.Image = image
	}
	hc.AutoRemove = false
	hc.ContainerIDFile = ""
	hc.Links = legacyLinks(hc.Links)
	keepAnonymousVolumes(&spec, c.Mounts)
	for name, ep := range spec.Networks {
		spec.Networks[name] = freshEndpoint(ep, c, behindFront)
	}
	return spec, nil
}

func clone(s engine.Spec) (engine.Spec, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return engine.Spec{}, err
	}
	var out engine.Spec
	return out, json.Unmarshal(data, &out)
}

// keepAnonymousVolumes binds by name every volume that the specification does
// not name, because the engine would make a new and empty one.
func keepAnonymousVolumes(spec *engine.Spec, mounts []engine.Mount) {
	hc := spec.HostConfig
	for _, m := range mounts {
		if m.Type != string(mount.TypeVolume) || m.Name == "" || namedBind(hc.Binds, m.Destination) {
			continue
		}
		i := slices.IndexFunc(hc.Mounts, func(mm mount.Mount) bool { return path.Clean(mm.Target) == m.Destination })
		if i >= 0 {
			if hc.Mounts[i].Type == mount.TypeVolume && hc.Mounts[i].Source == "" {
				hc.Mounts[i].Source = m.Name
			}
			continue
		}
		bind := m.Name + ":" + m.Destination
		if !m.Writable {
			bind += ":ro"
		}
		hc.Binds = append(hc.Binds, bind)
	}
}

func namedBind(binds []string, destination string) bool {
	return slices.ContainsFunc(binds, func(b string) bool {
		parts := strings.Split(b, ":")
		return len(parts) > 1 && path.Clean(parts[1]) == destination
	})
}

// freshEndpoint keeps what the user asked for and drops what the engine filled
// in: addresses, the MAC address (two containers with one MAC lose packets) and
// the old short id among the aliases.
func freshEndpoint(ep *network.EndpointSettings, c engine.Container, behindFront bool) *network.EndpointSettings {
	if ep == nil {
		return nil
	}
	out := &network.EndpointSettings{
		IPAMConfig: ep.IPAMConfig.Copy(),
		Links:      slices.Clone(ep.Links),
		DriverOpts: maps.Clone(ep.DriverOpts),
		GwPriority: ep.GwPriority,
	}
	if !behindFront {
		out.Aliases = slices.DeleteFunc(slices.Clone(ep.Aliases), func(a string) bool { return a == c.ShortID() })
	}
	return out
}

// legacyLinks turns the engine's report ("/db:/web/alias") into what it accepts.
func legacyLinks(links []string) []string {
	out := slices.Clone(links)
	for i, l := range out {
		if target, alias, ok := strings.Cut(l, ":"); ok && strings.HasPrefix(target, "/") {
			out[i] = strings.TrimPrefix(target, "/") + ":" + path.Base(alias)
		}
	}
	return out
}
