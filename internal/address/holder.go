package address

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is a program that listens on a port of the host.
type Process struct {
	Pid     int    // 0: it cannot be seen from here
	Program string // its name; empty with Pid 0
}

func (p Process) String() string {
	if p.Pid == 0 {
		return "another program"
	}
	return fmt.Sprintf("program %s (pid %d)", p.Program, p.Pid)
}

// Overlap says whether two listeners on one port at these addresses would be in each
// other's way; an unspecified address is every one of its family.
func Overlap(a, b netip.Addr) bool {
	return a == b || a.IsUnspecified() && (a.Is4() == b.Is4() || a.Is6()) || b.IsUnspecified() && (a.Is4() == b.Is4() || b.Is6())
}

// Holder returns the process that listens on the port (tcp or udp) at the address, or
// at one that includes it; nil when there is none.
func Holder(port uint16, proto string, at netip.Addr) (*Process, error) {
	for _, table := range []string{proto, proto + "6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		inode, err := findSocket(f, port, proto == "tcp", at)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		if inode != "" {
			p := processOf(inode)
			return &p, nil
		}
	}
	return nil, nil
}

// findSocket returns the inode of the socket in a table of /proc/net that listens at
// the address; empty when none does.
func findSocket(r io.Reader, port uint16, stream bool, at netip.Addr) (inode string, err error) {
	lines := bufio.NewScanner(r)
	lines.Scan() // the header
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			return "", fmt.Errorf("parse socket %q: too short", lines.Text())
		}
		if stream && f[3] != socketListen {
			continue
		}
		p, err := parseSocket(f[1])
		if err != nil {
			return "", fmt.Errorf("parse socket %q: %w", f[1], err)
		}
		if p.Number == port && Overlap(p.Addr, at) {
			return f[9], nil
		}
	}
	return "", lines.Err()
}

// processOf finds the process that has a socket open.
func processOf(inode string) Process {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			continue
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return Process{Pid: pid, Program: strings.TrimSpace(string(name))}
	}
	return Process{}
}
