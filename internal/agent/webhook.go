package agent

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
)

// listenAgain is the pause before an address that could not be had is tried again.
const listenAgain = 10 * time.Second

// webhook is what the configuration says of it.
func (s *settings) webhook() config.Webhook {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Agent.Watch.Webhook
}

func (a *Agent) newReceiver() *webhook.Receiver {
	s := a.settings
	return &webhook.Receiver{
		Key:   func() (secret.Value, error) { return s.webhook().Secret.Read() },
		Skew:  func() time.Duration { return s.webhook().MaxSkew },
		Known: func(name string) bool { return s.resolver.Providers().Has(name) },
		Look:  func(id secret.ID) bool { return s.watch.Push(id.Provider, id.Path) > 0 },
		Log:   a.log, Metrics: a.metrics.Webhook,
	}
}

// receive listens for reports where the configuration says, until ctx ends. Reports
// that were taken are remembered by the one receiver, also when it listens elsewhere.
func (a *Agent) receive(ctx context.Context) {
	r := a.newReceiver()
	r.Begin(time.Now())
	for ctx.Err() == nil {
		w := a.settings.webhook()
		serving, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		if w.On() {
			wg.Go(func() { a.listenForReports(serving, r, w.Listen) })
		}
		for a.settings.webhook().On() == w.On() && a.settings.webhook().Listen == w.Listen && ctx.Err() == nil {
			select {
			case <-a.settings.taken:
			case <-ctx.Done():
			}
		}
		stop()
		wg.Wait()
	}
}

func (a *Agent) listenForReports(ctx context.Context, r *webhook.Receiver, address string) {
	for said := false; ctx.Err() == nil; {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			said = false
			a.log.Info("webhook listens", "address", l.Addr().String(), "path", webhook.Path)
			if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
				a.log.Warn("the webhook can be reached from other hosts, without TLS", "address", l.Addr().String())
			}
			err = r.Serve(ctx, l)
		}
		if err == nil {
			return
		}
		if !said && ctx.Err() == nil {
			a.log.Error("webhook does not listen", "address", address, "error", err)
			said = true
		}
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
		}
	}
}
