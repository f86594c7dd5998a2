package main

import (
	"context"
	"fmt"
	"io"
	"net"
)

// splice is a proxy of the usual kind: Go hands the copying to the kernel.
func splice(ctx context.Context, from, to string) error {
	l, err := net.Listen("tcp", from)
	if err != nil {
		return fmt.Errorf("splice: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		client, err := l.Accept()
		if err != nil {
			return nil // told to stop
		}
		go pass(client, to)
	}
}

func pass(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}
