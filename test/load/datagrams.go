package load

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"
)

// datagrams asks with one datagram and takes the next one as the answer.
type datagrams struct {
	address string
	kept    bool

	mu   sync.Mutex
	conn net.Conn // the one that is kept; one request at a time uses it
}

func newDatagrams(address string, kept bool) *datagrams {
	return &datagrams{address: address, kept: kept}
}

func (d *datagrams) ask(ctx context.Context) (string, error) {
	if !d.kept {
		conn, err := dialUDP(ctx, d.address)
		if err != nil {
			return "", err
		}
		defer func() { _ = conn.Close() }()
		return exchange(ctx, conn)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		conn, err := dialUDP(ctx, d.address)
		if err != nil {
			return "", err
		}
		d.conn = conn
	}
	return exchange(ctx, d.conn)
}

func dialUDP(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "udp", address)
}

func exchange(ctx context.Context, conn net.Conn) (string, error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	answer := make([]byte, maxBody)
	n, err := conn.Read(answer)
	return strings.TrimSpace(string(answer[:n])), err
}

func (d *datagrams) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		_ = d.conn.SetDeadline(time.Now())
		_ = d.conn.Close()
	}
}
