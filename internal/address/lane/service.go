package lane

import (
	"maps"
	"net/netip"
	"slices"
)

// Service is what the lane is to do for one front.
type Service struct {
	Ports   []Port   // what the front publishes
	Targets []Target // where its connections go
	// Front is the process of the front: without it the port is not published, and
	// the lane does not publish it either.
	Front int
}

// Port is one published port of the host.
type Port struct {
	Host   netip.Addr // the address it is bound to; unspecified: any of its family
	Number uint16
	Proto  Proto
	Inside uint16 // the port of the container
}

// Proto is the number of a protocol, as in IP.
type Proto byte

// The protocols that the lane takes; SCTP goes by the front.
const (
	TCP Proto = 6
	UDP Proto = 17
)

// Target is a container that new connections go to.
type Target struct {
	Pid   int          // its process, in the numbering of the host
	Addrs []netip.Addr // at most one of each family; see [Source]
}

func (s Service) equal(o Service) bool {
	same := func(a, b Target) bool { return a.Pid == b.Pid && slices.Equal(a.Addrs, b.Addrs) }
	return s.Front == o.Front && slices.Equal(s.Ports, o.Ports) && slices.EqualFunc(s.Targets, o.Targets, same)
}

// route is one rule of the table: what comes to a port of the host goes to one of
// the addresses.
type route struct {
	port Port
	to   []netip.Addr // of the port's family, never empty
}

func (r route) equal(o route) bool { return r.port == o.port && slices.Equal(r.to, o.to) }

// routes turns services into rules. A port that only the host itself can reach has
// none, and neither has one whose containers have no address of its family.
func routes(services map[string]Service) []route {
	var all []route
	for _, key := range slices.Sorted(maps.Keys(services)) {
		s := services[key]
		for _, p := range s.Ports {
			if p.Host.IsLoopback() || p.Proto != TCP && p.Proto != UDP {
				continue
			}
			r := route{port: p}
			for _, t := range s.Targets {
				for _, a := range t.Addrs {
					if a.Is4() == p.Host.Is4() {
						r.to = append(r.to, a)
					}
				}
			}
			if len(r.to) > 0 {
				all = append(all, r)
			}
		}
	}
	return all
}

// left returns the addresses that the old routes lead to for some port and the new
// ones do not.
func left(old, now []route) []netip.Addr {
	var gone []netip.Addr
	for _, o := range old {
		for _, a := range o.to {
			kept := slices.ContainsFunc(now, func(n route) bool { return n.port == o.port && slices.Contains(n.to, a) })
			if !kept && !slices.Contains(gone, a) {
				gone = append(gone, a)
			}
		}
	}
	return gone
}
