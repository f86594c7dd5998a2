package front

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
			var dnsErr *net.DNSError
			if no := errors.As(err, &dnsErr) && dnsErr.IsNotFound; !no && !answers(ctx, server) {
				err = fmt.Errorf("%w: %w", errSilent, err)
			}
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

// answers reports whether the server answers a question about the front's own
// host name, which Docker's engine always can, also where a name it does not know
// is asked of a server that is out of reach. The resolver of net would look into
// /etc/hosts instead.
func answers(ctx context.Context, server string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write(question(host)); err != nil {
		return false
	}
	reply := make([]byte, 512)
	n, err := conn.Read(reply)
	return err == nil && n >= 12
}

// question is a DNS query for the A records of a host (RFC 1035, section 4).
func question(host string) []byte {
	msg := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} // id 1, recursion desired, one question
	for l := range strings.SplitSeq(strings.Trim(host, "."), ".") {
		l = l[:min(len(l), 63)]
		msg = append(msg, byte(len(l)))
		msg = append(msg, l...)
	}
	return append(msg, 0, 0, 1, 0, 1)
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
