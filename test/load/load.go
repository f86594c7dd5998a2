package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options describe one run. URL and Rate are needed.
type Options struct {
	// URL is http://… or udp://HOST:PORT. Over UDP a request is one datagram, and
	// KeepAlive sends all of them from one port.
	URL  string
	Rate int // requests per second
	// Duration is the time in which requests are started; without end when 0.
	Duration time.Duration
	// Timeout is for one request; 2 seconds when 0.
	Timeout time.Duration
	// KeepAlive uses connections again. Otherwise each request opens one, and
	// resolves the name.
	KeepAlive bool
	// Connections bounds how many are used at once in keep-alive mode; 8 when 0.
	Connections int
	// ResolveOnce looks the name up at the start only, as proxies do.
	ResolveOnce bool
	// StopFile ends the run when it appears.
	StopFile string
	// FloorFile holds the oldest marker vN that a request started from now on
	// may be answered with. While there is no such file any is right.
	FloorFile string
}

const maxBody = 4096

var marker = regexp.MustCompile(`^v(\d+)\b`)

// Run sends requests until the duration is over, the stop file appears or ctx
// ends, waits for those in flight and returns what happened. An error means
// that the run could not begin.
func Run(ctx context.Context, opts Options) (*Result, error) {
	c, err := newClient(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer c.close()
	ctx, cancel := c.bound(ctx)
	defer cancel()
	c.send(ctx)
	return c.record.result(), nil
}

type client struct {
	opts   Options
	get    func(ctx context.Context) (string, error)
	close  func()
	record *record
}

func newClient(ctx context.Context, opts Options) (*client, error) {
	u, err := url.Parse(opts.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("load: %q is not a URL", opts.URL)
	}
	if opts.Rate <= 0 {
		return nil, fmt.Errorf("load: rate %d is not positive", opts.Rate)
	}
	if opts.Timeout == 0 {
		opts.Timeout = 2 * time.Second
	}
	if opts.Connections == 0 {
		opts.Connections = 8
	}
	c := &client{opts: opts, record: newRecord()}
	if u.Scheme == "udp" {
		d := newDatagrams(u.Host, opts.KeepAlive)
		c.get, c.close = d.ask, d.close
		return c, nil
	}
	transport := &http.Transport{DisableKeepAlives: !opts.KeepAlive, DisableCompression: true}
	if opts.KeepAlive {
		transport.MaxConnsPerHost = opts.Connections
		transport.MaxIdleConnsPerHost = opts.Connections
	}
	if opts.ResolveOnce {
		addresses, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		if err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(addresses[0], port))
		}
	}
	h := &http.Client{Transport: transport}
	c.get, c.close = func(ctx context.Context) (string, error) { return get(ctx, h, opts.URL) }, h.CloseIdleConnections
	return c, nil
}

// bound ends the returned context when no more requests are to be started.
func (c *client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	const forever = 1 << 62
	if c.opts.Duration == 0 {
		c.opts.Duration = forever
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.Duration)
	if c.opts.StopFile != "" {
		go watch(ctx, c.opts.StopFile, cancel)
	}
	return ctx, cancel
}

func watch(ctx context.Context, file string, stop func()) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := os.Stat(file); err == nil {
				stop()
				return
			}
		}
	}
}

// send starts one request after the other, each when it is due.
func (c *client) send(ctx context.Context) {
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	// A request already started ends by itself or by its own timeout.
	requests := context.WithoutCancel(ctx)
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(n) * time.Second / time.Duration(c.opts.Rate))
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c.record.late(time.Since(due))
		inFlight.Go(func() { c.one(requests) })
	}
}

// one does a request. The floor is read before it starts: only then is an older
// answer wrong.
func (c *client) one(ctx context.Context) {
	floor, hasFloor := readFloor(c.opts.FloorFile)
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	body, err := c.get(ctx)
	s := sample{started: started, took: time.Since(started), body: body, err: err}
	if err == nil && hasFloor {
		n, ok := version(body)
		s.wrong = !ok || n < floor
	}
	c.record.add(s)
}

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

func get(ctx context.Context, h *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := h.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = statusError(resp.StatusCode)
	}
	return strings.TrimSpace(string(body)), err
}

// version is the number of a marker such as v3.
func version(text string) (int, bool) {
	m := marker.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

// readFloor reads the file for every request: it is small and cached, and so
// there is no moment at which the answer is known and not yet asked for.
func readFloor(file string) (int, bool) {
	if file == "" {
		return 0, false
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false
	}
	return version(strings.TrimSpace(string(content)))
}
