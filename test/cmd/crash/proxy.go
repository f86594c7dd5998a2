package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// proxy stands between an agent and the engine, and strikes at one of the calls
// that change something: it needs no word of the agent's about its steps, and finds
// the moments inside a step.
type proxy struct {
	http.Handler

	mu     sync.Mutex
	calls  []string // that change something, since the last strike was set
	at     int      // the call to strike at, from 1; 0: at none
	after  bool     // when the engine has done it, and the agent does not know
	strike func()
}

// serveProxy answers on a socket beside the engine's until ctx ends.
func (r *real) serveProxy(ctx context.Context) (*proxy, string, error) {
	socket := filepath.Join(r.lab.Engine.Dir(), "proxy.sock")
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, "", err
	}
	to := &httputil.ReverseProxy{
		Rewrite:       func(pr *httputil.ProxyRequest) { pr.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		FlushInterval: -1, // events come one by one
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.lab.Socket())
		}},
		ErrorLog:     log.New(io.Discard, "", 0), // an engine that dies is the point
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { hangUp(w) },
	}
	p := &proxy{Handler: to}
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return p, "unix://" + socket, nil
}

// hangUp ends the connection without an answer, as an engine does that dies.
func hangUp(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A health check is an exec: it changes nothing, and there are many.
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.Contains(r.URL.Path, "exec") {
		p.Handler.ServeHTTP(w, r)
		return
	}
	p.mu.Lock()
	p.calls = append(p.calls, r.Method+" "+r.URL.Path)
	struck, after, strike := len(p.calls) == p.at, p.after, p.strike
	p.mu.Unlock()
	switch {
	case !struck:
		p.Handler.ServeHTTP(w, r)
	case after:
		p.Handler.ServeHTTP(&deaf{header: http.Header{}}, r)
		strike()
		hangUp(w)
	default:
		strike()
		hangUp(w)
	}
}

// deaf is an answer that nobody hears.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header       { return d.header }
func (*deaf) Write(b []byte) (int, error) { return len(b), nil }
func (*deaf) WriteHeader(int)             {}

func (p *proxy) set(at int, after bool, strike func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.at, p.after, p.strike = nil, at, after, strike
}

func (p *proxy) called() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// strikes kills the agent, and the engine, at every call of a rotation that changes
// something.
func (r *real) strikes(ctx context.Context, s rotation.Strategy, only string) error {
	p, host, err := r.serveProxy(ctx)
	if err != nil {
		return err
	}
	for _, bad := range []bool{false, true} {
		all := struckCalls(s, bad, only)
		if len(all) == 0 {
			continue
		}
		calls := 0
		what := fmt.Sprintf("%s, bad=%t: nobody dies", s, bad)
		if _, err := r.attempt(ctx, what, func() (err error) {
			calls, err = r.countCalls(ctx, p, host, struckCall{strategy: s, bad: bad})
			return err
		}); err != nil {
			return err
		}
		if calls == 0 {
			return fmt.Errorf("%s: there is nothing to strike at", what)
		}
		for _, c := range all {
			if c.at > calls || !r.thorough && !c.itsTurn() {
				continue
			}
			if err := r.tryStrike(ctx, p, host, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// struckCall is one death: at the call of that number, before it or when it is done.
type struckCall struct {
	strategy rotation.Strategy
	bad      bool
	victim   string
	at       int
	after    bool
}

func (c struckCall) String() string {
	return fmt.Sprintf("%s, bad=%t: the %s dies, call %d, done=%t", c.strategy, c.bad, c.victim, c.at, c.after)
}

// itsTurn lets agent and engine die at each call, one before it and the other when it is
// done, and the other way round at the next.
func (c struckCall) itsTurn() bool {
	return (c.at%2 == 1) == (c.after == (c.victim == "agent"))
}

// point is the end of the rotation.
func (c struckCall) point() rotation.Point {
	if c.bad {
		return rotation.Point{Strategy: c.strategy, Phase: rotation.Back}
	}
	return rotation.Point{Strategy: c.strategy, Phase: rotation.Forward}
}

// mostCalls is more than any rotation has.
const mostCalls = 50

// struckCalls are all deaths whose name contains only, also at calls that a rotation
// does not have.
func struckCalls(s rotation.Strategy, bad bool, only string) []struckCall {
	var all []struckCall
	for _, victim := range []string{"agent", "engine"} {
		for at := 1; at <= mostCalls; at++ {
			for _, after := range []bool{false, true} {
				if c := (struckCall{s, bad, victim, at, after}); strings.Contains(c.String(), only) {
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// countCalls runs one rotation without a strike and returns how many calls it has.
func (r *real) countCalls(ctx context.Context, p *proxy, host string, c struckCall) (int, error) {
	if err := r.rotateBehind(ctx, p, host, c, nil); err != nil {
		return 0, err
	}
	if err := r.awaitStrike(ctx, nil, c.point()); !errors.Is(err, errNobodyDied) {
		return 0, err
	}
	calls := len(p.called())
	return calls, r.verify(ctx, c.point())
}

func (r *real) tryStrike(ctx context.Context, p *proxy, host string, c struckCall) error {
	call := ""
	ok, err := r.attempt(ctx, c.String(), func() (err error) {
		call, err = r.strikeCall(ctx, p, host, c)
		return err
	})
	if call != "" || !ok {
		r.more(&r.calls, disaster{string(c.strategy), c.victim, c.String() + ": " + call, ok})
	}
	return err
}

// rotateBehind begins a rotation by an agent behind the proxy.
func (r *real) rotateBehind(ctx context.Context, p *proxy, host string, c struckCall, strike func()) error {
	p.set(0, false, nil)
	if !r.lab.AgentRuns() {
		if err := r.lab.StartAgent(ctx, "--host", host); err != nil {
			return err
		}
	}
	r.standing = host
	p.set(c.at, c.after, strike)
	marker := r.next()
	if !c.bad {
		r.serves[c.strategy] = marker
	}
	_ = r.set(ctx, c.strategy, marker, c.bad) // the agent may die before it answers
	return nil
}

// strikeCall runs one rotation with a strike. The error is errNobodyDied when it had fewer
// calls: how often a start that fails is tried again is not always the same.
func (r *real) strikeCall(ctx context.Context, p *proxy, host string, c struckCall) (call string, err error) {
	struck := make(chan struct{})
	var died error
	err = r.rotateBehind(ctx, p, host, c, func() {
		if c.victim == "agent" {
			died = r.lab.KillAgent()
		} else {
			died = r.lab.Kill()
		}
		close(struck)
	})
	if err != nil {
		return "", err
	}
	if err := r.awaitStrike(ctx, struck, c.point()); err != nil {
		return "", err
	}
	calls := p.called()
	call = calls[min(c.at, len(calls))-1]
	if died != nil {
		return call, died
	}
	p.set(0, false, nil)
	if c.victim == "agent" {
		err = r.lab.StartAgent(ctx, "--host", host)
	} else {
		err = r.lab.StartDaemon(ctx)
	}
	if err != nil {
		return call, err
	}
	return call, r.verify(ctx, c.point())
}

// awaitStrike waits for the strike. The error is errNobodyDied when the rotation was over
// without one.
func (r *real) awaitStrike(ctx context.Context, struck <-chan struct{}, p rotation.Point) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		select {
		case <-struck:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the rotation neither ends nor comes to the call: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
		if wrong, err := r.lab.CheckWithin(ctx, 0, r.places...); err == nil && len(wrong) == 0 && r.verifyReport(ctx, p) == nil {
			return errNobodyDied
		}
	}
}
