package agent

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
)

// deliverDeadline bounds one answer to dso-runtime; its own deadline is 10 s.
const deliverDeadline = 9 * time.Second

// serveRuntime answers dso-runtime until ctx ends. It never asks the engine: the
// engine waits for the answer.
func (a *Agent) serveRuntime(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			a.log.Warn("runtime connection not accepted", "error", err)
			continue
		}
		wg.Go(func() { a.answerRuntime(ctx, conn) })
	}
}

func (a *Agent) answerRuntime(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	// A start that is being answered when the agent is told to stop is answered.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverDeadline)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(deliverDeadline))
	var req wire.DeliverRequest
	if err := wire.Read(conn, &req); err != nil {
		a.log.Warn("runtime request not read", "error", err)
		return
	}
	resp, err := a.deliveries.Deliver(ctx, req)
	if err != nil {
		resp = wire.DeliverResponse{Error: err.Error()}
		a.metrics.Agent.Start("refused")
		a.log.Warn("start refused", "container", engine.ShortID(req.ContainerID), "name", req.Name, "error", err)
	}
	a.noteStart(ctx, req, err)
	if err := wire.Write(conn, resp); err != nil {
		a.log.Warn("runtime answer not sent", "container", engine.ShortID(req.ContainerID), "error", err)
		return
	}
	if err == nil && !req.Exec {
		result := "delivered"
		if a.deliveries.Stale(req.ContainerID) != nil {
			result = "stale"
		}
		a.metrics.Agent.Start(result)
		a.log.Info("delivered", "container", engine.ShortID(req.ContainerID), "name", req.Name, "references", len(req.References))
	}
}
