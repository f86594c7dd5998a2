package address_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker-secret-operator/dso/internal/address"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const (
	service = "8080" // below the ephemeral ports, so that no client can take it
	dnsAddr = "127.0.0.1:5300"
	key     = "web"
)

// The hosts of a lab, on one bridge. A number is the last part of the address.
const (
	clientHost = 2
	frontHost  = 10
	hostA      = 11
	hostB      = 12
	hostMoved  = 21 // where A comes back
)

var labs atomic.Int64

// lab is a network of namespaces like the one that a Compose project gets: a
// client, a front and two applications on a bridge, with a DNS server where the
// front finds Docker's.
type lab struct {
	t      *testing.T
	prefix string
	fronts *address.Fronts
	dns    *nameserver

	front *exec.Cmd
	log   *record
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, prefix: fmt.Sprintf("dsofr-%d-%d", os.Getpid(), labs.Add(1))}
	l.fronts = address.New(filepath.Join(t.TempDir(), "fronts"))
	t.Cleanup(func() {
		for _, ns := range []string{"br", "cl", "fr", "a", "b"} {
			_ = exec.Command("ip", "netns", "del", l.ns(ns)).Run()
		}
	})
	for _, ns := range []string{"br", "cl", "fr", "a", "b"} {
		l.ip("", "netns add "+l.ns(ns))
	}
	l.ip("br", "link add br0 type bridge", "link set br0 up")
	for ns, host := range map[string]int{"cl": clientHost, "fr": frontHost, "a": hostA, "b": hostB} {
		l.ip("br",
			fmt.Sprintf("link add v-%s type veth peer name eth0 netns %s", ns, l.ns(ns)),
			fmt.Sprintf("link set v-%s master br0 up", ns))
		l.ip(ns, "link set lo up", "link set eth0 up",
			fmt.Sprintf("addr add %s/24 dev eth0", v4(host)),
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", v6(host)))
	}
	l.dns = serveNames(l)
	l.serve("a", "a")
	l.serve("b", "b")
	return l
}

func v4(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(host)}) }

func v6(host int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77::%d", host)) }

func (l *lab) ns(name string) string { return l.prefix + "-" + name }

func (l *lab) nsFile(name string) string { return "/run/netns/" + l.ns(name) }

// ip runs iproute2 commands in one of the lab's namespaces; "" is only for
// commands about namespaces.
func (l *lab) ip(ns string, commands ...string) {
	l.t.Helper()
	args := []string{"-batch", "-"}
	if ns != "" {
		args = append([]string{"-n", l.ns(ns)}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	assert.NilError(l.t, err, "ip %s: %s", commands, out)
}

// in runs fn on a thread inside a namespace: the sockets it makes belong there.
func (l *lab) in(ns string, fn func() error) error {
	return address.OnThread(func() error {
		f, err := os.Open(l.nsFile(ns))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// serve answers every line over TCP and every datagram over UDP with name.
func (l *lab) serve(ns, name string) {
	l.t.Helper()
	assert.NilError(l.t, l.in(ns, func() error {
		tcp, err := net.Listen("tcp", "[::]:"+service)
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { tcp.Close() })
		udp, err := net.ListenPacket("udp4", "0.0.0.0:"+service)
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { udp.Close() })
		go acceptAll(tcp, name)
		go answerAll(udp, name)
		return nil
	}))
}

// listenUDP handles datagrams at a port.
func (l *lab) listenUDP(ns, port string, handle func(c net.PacketConn, from net.Addr)) {
	l.t.Helper()
	assert.NilError(l.t, l.in(ns, func() error {
		c, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { _ = c.Close() })
		go func() {
			buf := make([]byte, 64)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				handle(c, from)
			}
		}()
		return nil
	}))
}

func acceptAll(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if _, err := fmt.Fprintln(c, name); err != nil {
					return
				}
			}
		}()
	}
}

func answerAll(c net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo([]byte(name), from)
	}
}

// record is what a front wrote, readable while it runs.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

var frontBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dsofr-bin-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "dso-front"),
		"github.com/docker-secret-operator/dso/cmd/dso-front")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build dso-front: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := frontBinary(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// start runs the real program with the rights that its container has: root, with
// NET_ADMIN and nothing else. It returns its pid.
func (l *lab) start(fallback ...string) int {
	l.t.Helper()
	dir, err := frontBinary()
	assert.NilError(l.t, err)
	maps, err := l.fronts.Prepare(key)
	assert.NilError(l.t, err)
	l.log = &record{}
	l.front = exec.Command("nsenter", "--net="+l.nsFile("fr"),
		"setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs", filepath.Join(dir, "dso-front"))
	l.front.Env = []string{"DSO_FRONT_DIR=" + maps, "DSO_FRONT_RESOLVER=" + dnsAddr, "DSO_FRONT_TARGETS=" + strings.Join(fallback, ",")}
	l.front.Stderr = l.log
	l.front.WaitDelay = 2 * time.Second
	assert.NilError(l.t, l.front.Start())
	started, log := l.front, l.log
	l.t.Cleanup(func() {
		if started.ProcessState == nil {
			_ = started.Process.Kill()
			_ = started.Wait()
		}
		if l.t.Failed() {
			l.t.Logf("front:\n%s", log)
		}
	})
	pid := l.front.Process.Pid
	// A container's process is born in its namespace, this one has to go there.
	eventually(l.t, "the front enters its network", func() error {
		want, err1 := os.Stat(l.nsFile("fr"))
		got, err2 := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err := errors.Join(err1, err2); err != nil || !os.SameFile(want, got) {
			return fmt.Errorf("still outside: %w", err)
		}
		return nil
	})
	return pid
}

func (l *lab) kill() {
	l.t.Helper()
	assert.NilError(l.t, l.front.Process.Kill())
	_ = l.front.Wait()
}

// order has the front send new connections to targets and waits until it does.
func (l *lab) order(pid int, targets ...string) {
	l.t.Helper()
	generation, err := l.fronts.Switch(key, targets)
	assert.NilError(l.t, err)
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
	defer cancel()
	assert.NilError(l.t, address.WaitApplied(ctx, pid, generation))
}

// dial connects the client to the front.
func (l *lab) dial(network string, to netip.Addr) (c net.Conn, err error) {
	return l.dialPort(network, to, service)
}

func (l *lab) dialPort(network string, to netip.Addr, port string) (c net.Conn, err error) {
	err = l.in("cl", func() error {
		d := net.Dialer{Timeout: 2 * time.Second, FallbackDelay: -1}
		c, err = d.Dial(network, net.JoinHostPort(to.String(), port))
		return err
	})
	return c, err
}

// ask returns the name of who answers on a connection.
func ask(c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, "who"); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return strings.TrimSpace(string(buf[:n])), err
}

// who asks over a fresh connection.
func (l *lab) who() (string, error) { return l.whoAt(v4(frontHost)) }

func (l *lab) whoAt(to netip.Addr) (string, error) {
	c, err := l.dial("tcp", to)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return ask(c)
}

// eventually polls until check agrees, for at most five seconds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func (l *lab) eventuallyAnswers(want string) {
	l.t.Helper()
	eventually(l.t, "wait for "+want, func() error {
		if got, err := l.who(); got != want {
			return fmt.Errorf("answered by %q: %w", got, err)
		}
		return nil
	})
}

// nameserver answers A and AAAA for the names it is given, like Docker's.
type nameserver struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
}

func serveNames(l *lab) *nameserver {
	l.t.Helper()
	s := &nameserver{names: map[string][]netip.Addr{}}
	assert.NilError(l.t, l.in("fr", func() error {
		c, err := net.ListenPacket("udp4", dnsAddr)
		if err != nil {
			return err
		}
		l.t.Cleanup(func() { c.Close() })
		go s.run(c)
		return nil
	}))
	return s
}

// set puts a name at addresses; none removes it.
func (s *nameserver) set(name string, addrs ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = addrs
}

func (s *nameserver) run(c net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := s.answer(buf[:n]); err == nil {
			_, _ = c.WriteTo(answer, from)
		}
	}
}

func (s *nameserver) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(err, errors.New("not one question"))
	}
	q := m.Questions[0]
	s.mu.Lock()
	addrs := s.names[strings.TrimSuffix(q.Name.String(), ".")]
	s.mu.Unlock()
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	if len(addrs) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}

// halfOpen is nil once the client has a connection that nobody answered.
func (l *lab) halfOpen() error {
	return l.in("cl", func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) > 3 && f[3] == "02" { // TCP_SYN_SENT
				return nil
			}
		}
		return errors.New("no half-open connection")
	})
}
