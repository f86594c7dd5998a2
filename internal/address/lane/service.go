package lane

import (
	"context"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/ti-mo/conntrack"
)

// Service is what the lane is to do for one front.
type Service struct {
	Ports   []Port   // what the front publishes
	Targets []Target // where its connections go
	// Leaving are those where they went before, of a front that the lane does not know: it
	// remembers by itself where it sent them.
	Leaving []Target
	// Front is the process of the front, and Ended is called when it has ended. The lane
	// cannot know whether the front is started again, and goes on as it is. When it was
	// stopped its port is not published, and [Lane.Set] must take the lane away too.
	Front int
	Ended func(ctx context.Context)
	Via   []netip.Addr // the addresses of the front, to which what the lane does not take goes
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

// Target is a container that new connections go to, or went to.
type Target struct {
	Name  string       // of the container, in a front's map
	Pid   int          // its process, in the numbering of the host
	Addrs []netip.Addr // at most one of each family; see [Source]
}

func (s Service) equal(o Service) bool {
	same := func(a, b Target) bool { return a.Pid == b.Pid && slices.Equal(a.Addrs, b.Addrs) }
	return s.Front == o.Front && slices.Equal(s.Via, o.Via) && slices.Equal(s.Ports, o.Ports) && slices.EqualFunc(s.Targets, o.Targets, same)
}

// route is one rule of the table: what comes to a port of the host goes to one of
// the addresses.
type route struct {
	port Port
	to   []netip.Addr // of the port's family, never empty
	via  []netip.Addr // of the front
}

func (r route) equal(o route) bool {
	return r.port == o.port && slices.Equal(r.to, o.to) && slices.Equal(r.via, o.via)
}

// families says which of them the lane takes.
type families struct{ v4, v6 bool }

func (f families) take(a netip.Addr) bool { return a.Is4() && f.v4 || a.Is6() && f.v6 }

// routes turns services into rules. A port that only the host itself can reach has
// none, and neither has one whose containers have no address of its family.
func routes(services map[string]Service, of families) []route {
	var all []route
	for _, key := range slices.Sorted(maps.Keys(services)) {
		s := services[key]
		for _, p := range s.Ports {
			if p.Host.IsLoopback() || !of.take(p.Host) || p.Proto != TCP && p.Proto != UDP {
				continue
			}
			r := route{port: p, via: s.Via}
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

func (r route) leadsTo(a netip.Addr) bool {
	return slices.Contains(r.to, a) || slices.Contains(r.via, a)
}

// at says whether an address and a port are where the route begins.
func (r route) at(a netip.Addr, port uint16) bool {
	bound := r.port.Host == a || r.port.Host.IsUnspecified() && r.port.Host.Is4() == a.Is4()
	return port == r.port.Number && bound && !a.IsLoopback()
}

// astray says whether a flow joins the beginning of the route with something that is
// neither one of its containers nor the front: the container before, or whatever an
// agent before sent it to. An answer that came late when no agent lived may have made it,
// which is in the other direction then.
func (r route) astray(f conntrack.Flow) bool {
	if f.TupleOrig.Proto.Protocol != byte(r.port.Proto) {
		return false
	}
	asked, answered := f.TupleOrig, f.TupleReply
	switch {
	case f.Status.DstNAT() && r.at(asked.IP.DestinationAddress, asked.Proto.DestinationPort):
		return !r.leadsTo(answered.IP.SourceAddress)
	case f.Status.SrcNAT() && f.Zone == 0 && r.at(answered.IP.DestinationAddress, answered.Proto.DestinationPort):
		return !r.leadsTo(asked.IP.SourceAddress)
	}
	return false
}

// late is a UDP port of a container that new connections do not go to any more. An
// answer that it still owes when its flow is forgotten begins a flow in the other
// direction. It must come from the port that the client asked, and the client's next
// datagram must not be taken for its answer: so it is tracked in a zone of its own.
type late struct {
	addr netip.Addr
	port Port
	zone uint16
}

// zoneOf is the zone for the late answers of a process. Two processes that leave at once may
// owe the same client something.
func zoneOf(pid int) uint16 { return uint16(pid%math.MaxUint16) + 1 } // 0 is that of everything else

// rules are what the table holds: where connections go, and who may still owe an answer.
type rules struct {
	routes []route
	late   []late
}

func (r rules) equal(o rules) bool {
	return slices.EqualFunc(r.routes, o.routes, route.equal) && slices.Equal(r.late, o.late)
}

// latecomers returns, by process, what the old service has and the new one has not.
func latecomers(old, now Service) map[int][]late {
	all := map[int][]late{}
	for _, t := range old.Targets {
		if slices.ContainsFunc(now.Targets, func(n Target) bool { return n.Pid == t.Pid }) {
			continue
		}
		for _, p := range old.Ports {
			for _, a := range t.Addrs {
				if p.Proto == UDP && !p.Host.IsLoopback() && p.Host.Is4() == a.Is4() {
					all[t.Pid] = append(all[t.Pid], late{a, p, zoneOf(t.Pid)})
				}
			}
		}
	}
	return all
}
