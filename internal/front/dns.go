package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// dockerDNS is where Docker's engine answers for the names on a user-defined
// network, inside every container on it.
const dockerDNS = "127.0.0.11:53"

var errNotHere = errors.New("not on a network of this front")

// dns looks names up at one server (host:port) and keeps the answers that are
// neighbours.
func dns(server string) lookup {
	r := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		},
	}
	return func(ctx context.Context, name string) ([]netip.Addr, error) {
		// The dot keeps resolv.conf's search list out of it.
		addrs, err := r.LookupNetIP(ctx, "ip", strings.TrimSuffix(name, ".")+".")
		if err != nil {
			return nil, err
		}
		local, err := localPrefixes()
		if err != nil {
			return nil, err
		}
		if addrs = neighbours(addrs, local); len(addrs) == 0 {
			return nil, fmt.Errorf("resolve %s: %w", name, errNotHere)
		}
		return addrs, nil
	}
}

// neighbours keeps the addresses that share a network with the front and are
// not its own: the front may carry the very alias that it is asked to resolve.
func neighbours(addrs []netip.Addr, local []netip.Prefix) []netip.Addr {
	var kept []netip.Addr
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		own := slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Addr() == a })
		near := slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(a) })
		if near && !own && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			kept = append(kept, a)
		}
	}
	return kept
}

// localPrefixes returns the front's own addresses with their networks.
func localPrefixes() ([]netip.Prefix, error) {
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var prefixes []netip.Prefix
	for _, a := range ifaddrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}
