package address

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

const socketListen = "0A" // TCP_LISTEN, linux/include/net/tcp_states.h

// Port is a TCP socket that accepts connections from outside.
type Port struct {
	Addr   netip.Addr // unspecified: any address of its family
	Number uint16
}

// Listening lists the TCP ports that the network namespace of pid listens on,
// sorted by number, without the ones that only loopback reaches: an application
// is not ready because its debugger is, and Docker's DNS is on 127.0.0.11.
func Listening(pid int) ([]Port, error) {
	var ports []Port
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if errors.Is(err, fs.ErrNotExist) && table == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list ports of pid %d: %w", pid, err)
		}
		found, err := parseListening(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("list ports of pid %d: %w", pid, err)
		}
		ports = append(ports, found...)
	}
	slices.SortFunc(ports, func(a, b Port) int {
		if a.Number != b.Number {
			return int(a.Number) - int(b.Number)
		}
		return a.Addr.Compare(b.Addr)
	})
	return slices.Compact(ports), nil
}

// parseListening reads a table in the format of /proc/net/tcp, described in
// Documentation/networking/proc_net_tcp.rst of the kernel.
func parseListening(r io.Reader) ([]Port, error) {
	var ports []Port
	lines := bufio.NewScanner(r)
	lines.Scan() // the header
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			return nil, fmt.Errorf("parse socket %q: too short", lines.Text())
		}
		if f[3] != socketListen {
			continue
		}
		p, err := parseSocket(f[1])
		if err != nil {
			return nil, fmt.Errorf("parse socket %q: %w", f[1], err)
		}
		if !p.Addr.IsLoopback() {
			ports = append(ports, p)
		}
	}
	return ports, lines.Err()
}

// parseSocket reads ADDRESS:PORT in hex. The address is in words of 32 bits, each
// in the order of the machine.
func parseSocket(s string) (Port, error) {
	words, number, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(number, 16, 16)
	if err != nil {
		return Port{}, err
	}
	raw, err := hex.DecodeString(words)
	if err != nil {
		return Port{}, err
	}
	if len(raw) != 4 && len(raw) != 16 {
		return Port{}, fmt.Errorf("address of %d bytes", len(raw))
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return Port{Addr: addr.Unmap(), Number: uint16(port)}, nil
}
