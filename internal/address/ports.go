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

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// TCP_LISTEN, linux/include/net/tcp_states.h, and as the tables write it.
const (
	tcpListen    = 10
	socketListen = "0A"
)

// Port is a TCP socket that accepts connections from outside.
type Port struct {
	Addr   netip.Addr // unspecified: any address of its family
	Number uint16
}

// Listening lists the TCP ports that the network namespace of pid listens on,
// sorted by number, without the ones that only loopback reaches: an application
// is not ready because its debugger is, and Docker's DNS is on 127.0.0.11.
func Listening(pid int) ([]Port, error) {
	ports, err := askListening(pid)
	if err != nil { // a kernel without inet_diag; the tables say so if it is something else
		ports, err = readListening(pid)
	}
	if err != nil {
		return nil, fmt.Errorf("list ports of pid %d: %w", pid, err)
	}
	ports = slices.DeleteFunc(ports, func(p Port) bool { return p.Addr.IsLoopback() })
	slices.SortFunc(ports, func(a, b Port) int {
		if a.Number != b.Number {
			return int(a.Number) - int(b.Number)
		}
		return a.Addr.Compare(b.Addr)
	})
	return slices.Compact(ports), nil
}

// The layout of what inet_diag is asked and answers, linux/include/uapi/linux/inet_diag.h:
// struct inet_diag_req_v2 and struct inet_diag_msg.
const (
	diagRequest = 56
	diagMessage = 72
	diagPort    = 4 // of the message, in network order
	diagSource  = 8
)

// askListening asks the kernel for the sockets that listen. The tables below /proc tell the
// same, but walk through every connection that the whole host has room for: milliseconds
// each, on a host with some memory.
func askListening(pid int) ([]Port, error) {
	ns, err := openNetwork(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	c, err := netlink.Dial(unix.NETLINK_INET_DIAG, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	var ports []Port
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		ask := make([]byte, diagRequest)
		ask[0], ask[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(ask[4:], 1<<tcpListen)
		answers, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump},
			Data:   ask,
		})
		if err != nil {
			return nil, err
		}
		for _, answer := range answers {
			p, err := parseDiag(answer.Data)
			if err != nil {
				return nil, err
			}
			ports = append(ports, p)
		}
	}
	return ports, nil
}

func parseDiag(msg []byte) (Port, error) {
	if len(msg) < diagMessage {
		return Port{}, fmt.Errorf("a socket in %d bytes, %d expected", len(msg), diagMessage)
	}
	size := 4
	if msg[0] == unix.AF_INET6 {
		size = 16
	}
	addr, _ := netip.AddrFromSlice(msg[diagSource:][:size])
	return Port{Addr: addr.Unmap(), Number: binary.BigEndian.Uint16(msg[diagPort:])}, nil
}

func readListening(pid int) ([]Port, error) {
	var ports []Port
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if errors.Is(err, fs.ErrNotExist) && table == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		found, err := parseListening(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		ports = append(ports, found...)
	}
	return ports, nil
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
		ports = append(ports, p)
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
