package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
)

// dockerProxy is the engine's own program that listens on what is published.
const dockerProxy = "docker-proxy"

// portsFree refuses ports that a container of somebody else, or another program, has.
func (a *Agent) portsFree(ctx context.Context, req wire.FrontRequest) error {
	if len(req.Ports) == 0 {
		return nil
	}
	ids, err := a.engine.List(ctx)
	if err != nil {
		return err
	}
	all, err := engine.InspectAll(ctx, a.engine, ids)
	if err != nil {
		return err
	}
	for _, p := range req.Ports {
		if who := holder(all, req.Project, p); who != "" {
			return portTaken(p, who)
		}
		held, err := address.Holder(p.Number, p.Proto, hostOf(p.Host))
		if err != nil {
			a.log.Debug("programs that listen not listed", "error", err)
		} else if held != nil && held.Program != dockerProxy {
			return portTaken(p, held.String())
		}
	}
	return nil
}

// holder names the container of another project, or of none, that has the port.
func holder(all []engine.Container, project string, p wire.HostPort) string {
	for _, c := range all {
		if c.Project() != "" && c.Project() == project {
			continue
		}
		for _, has := range c.Published {
			if has.Number == p.Number && has.Proto == p.Proto && bindsAlso(has.Host, p.Host) {
				return "container " + c.Name
			}
		}
	}
	return ""
}

// bindsAlso reports whether the engine would bind a port at the text's address, at every one
// when there is none, where it is bound already. Unspecified ones stand for their family.
func bindsAlso(bound netip.Addr, text string) bool {
	a, err := netip.ParseAddr(text)
	return err != nil || a == bound || a.Is4() == bound.Is4() && (a.IsUnspecified() || bound.IsUnspecified())
}

// hostOf is the address that a port is bound to; without one, any.
func hostOf(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return a.Unmap()
}

func portTaken(p wire.HostPort, who string) error {
	return &api.Error{
		Code: wire.CodeInUse,
		Err:  fmt.Errorf("port %d/%s, which service %s claims, belongs to %s", p.Number, p.Proto, p.Service, who),
		Hint: "stop it, or publish another port",
	}
}
