package agent

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
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

// door is an address that is listened on, and who answers there.
type door struct {
	address       string
	rest, reports bool
}

// doors are those that the configuration wants.
func (s *settings) doors() []door {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.config.Agent
	var all []door
	if a.REST.On() {
		all = append(all, door{address: a.REST.Listen, rest: true})
	}
	switch hook := a.Watch.Webhook; {
	case !hook.On():
	case len(all) > 0 && all[0].address == hook.Listen:
		all[0].reports = true
	default:
		all = append(all, door{address: hook.Listen, reports: true})
	}
	return all
}

// restToken is what callers of the REST show.
func (s *settings) restToken() (token secret.Value, set bool, err error) {
	s.mu.Lock()
	t := s.config.Agent.REST.Token
	s.mu.Unlock()
	if !t.IsSet() {
		return secret.Value{}, false, nil
	}
	if token, err = t.Read(); err != nil {
		s.log.Error("token of the REST not read", "error", err)
	}
	return token, true, err
}

// openDoors listens where the configuration says, until ctx ends. Reports that were taken
// are remembered by the one receiver, also when it listens elsewhere.
func (a *Agent) openDoors(ctx context.Context) {
	r := a.newReceiver()
	r.Begin(time.Now())
	for ctx.Err() == nil {
		doors := a.settings.doors()
		open, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, d := range doors {
			wg.Go(func() { a.stand(open, d, r) })
		}
		for slices.Equal(a.settings.doors(), doors) && ctx.Err() == nil {
			select {
			case <-a.settings.taken:
			case <-ctx.Done():
			}
		}
		stop()
		wg.Wait()
	}
}

// answers is what is said at a door.
func (a *Agent) answers(d door, r *webhook.Receiver) http.Handler {
	switch {
	case !d.rest:
		return r.Handler()
	case !d.reports:
		return api.REST(a, a.settings.restToken, a.log)
	}
	mux := http.NewServeMux()
	mux.Handle("/", api.REST(a, a.settings.restToken, a.log))
	mux.Handle(webhook.Path, r.Handler())
	return mux
}

// stand listens at a door until ctx ends.
func (a *Agent) stand(ctx context.Context, d door, r *webhook.Receiver) {
	for said := false; ctx.Err() == nil; {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.address)
		if err == nil {
			said = false
			a.log.Info("listens", "address", l.Addr().String(), "rest", d.rest, "webhook", d.reports)
			if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
				a.log.Warn("other hosts can reach this address, without TLS", "address", l.Addr().String())
			}
			err = api.ServeTCP(ctx, l, a.answers(d, r), a.log)
		}
		if err == nil {
			return
		}
		if !said && ctx.Err() == nil {
			a.log.Error("nobody listens", "address", d.address, "rest", d.rest, "webhook", d.reports, "error", err)
			said = true
		}
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
		}
	}
}
