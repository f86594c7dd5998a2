package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Sentinels of this package.
var (
	ErrNoAgent = errors.New("no agent is running")
	ErrDenied  = errors.New("the agent's socket may not be opened by this user")
)

// Client calls one agent.
type Client struct {
	refuse error // of every call; nil: none
	socket string
	http   *http.Client
}

// New returns a client of the agent that serves the socket. It does not connect.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Unreachable returns a client of an agent that cannot be called: every call ends with
// the error.
func Unreachable(err error) *Client { return &Client{refuse: err} }

// RemoteError is what the agent said.
type RemoteError struct{ wire.Problem }

func (e *RemoteError) Error() string { return e.Problem.Error }

// Call sends one request and reads the answer into resp, unless that is nil.
func (c *Client) Call(ctx context.Context, method, path string, req, resp any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.call(ctx, method, path, req, resp)
}

// Adopt does what is said about leftovers of an older version. It waits for
// containers to become healthy, which takes as long as it takes.
func (c *Client) Adopt(ctx context.Context, req wire.AdoptRequest) (rows []wire.Leftover, err error) {
	return rows, c.call(ctx, http.MethodPost, "/v1/legacy", req, &rows)
}

// Pin keeps a container at the versions that it has.
func (c *Client) Pin(ctx context.Context, container string) (resp wire.PinResponse, err error) {
	return resp, c.call(ctx, http.MethodPost, "/v1/container/pin", wire.ContainerRequest{Container: container}, &resp)
}

// Unpin lets it follow the current versions again. It waits until it has them, which takes
// as long as it takes.
func (c *Client) Unpin(ctx context.Context, container string) (resp wire.PinResponse, err error) {
	return resp, c.call(ctx, http.MethodPost, "/v1/container/unpin", wire.ContainerRequest{Container: container}, &resp)
}

func (c *Client) call(ctx context.Context, method, path string, req, resp any) error {
	r, err := c.send(ctx, method, path, req)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if resp == nil {
		return nil
	}
	if err := json.NewDecoder(r.Body).Decode(resp); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// Pause keeps rotations from beginning in a Compose project until resume is called, and
// returns when none is going on.
func (c *Client) Pause(ctx context.Context, project string) (resume func(), err error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end) // until it is paused
	r, err := c.send(life, http.MethodPost, "/v1/pause", wire.PauseRequest{Project: project})
	if err == nil && !stop() {
		err = errors.Join(ctx.Err(), r.Body.Close())
	}
	if err != nil {
		end()
		return nil, err
	}
	return func() {
		end()
		_ = r.Body.Close()
	}, nil
}

// Rotate asks for a rotation and reports its steps as they happen.
func (c *Client) Rotate(ctx context.Context, req wire.RotateRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	return c.follow(ctx, "/v1/rotate", req, tell)
}

// Recover carries on what is not finished and reports its steps as they happen.
func (c *Client) Recover(ctx context.Context, req wire.RecoverRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	return c.follow(ctx, "/v1/recover", req, tell)
}

// maxMetrics bounds what is read of an agent's metrics, in bytes.
const maxMetrics = 8 << 20

// Metrics returns the agent's metrics, in the format of Prometheus.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	r, err := c.send(ctx, http.MethodGet, "/metrics", struct{}{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }()
	return io.ReadAll(io.LimitReader(r.Body, maxMetrics))
}

// Events tells what the agent keeps of the events after a number and, if asked to
// follow, all that come until ctx ends.
func (c *Client) Events(ctx context.Context, after uint64, follow bool, tell func(wire.Event)) error {
	r, err := c.send(ctx, http.MethodGet, fmt.Sprintf("/v1/events?after=%d&follow=%t", after, follow), struct{}{})
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	for d := json.NewDecoder(r.Body); ; {
		var ev wire.Event
		switch err := d.Decode(&ev); {
		case errors.Is(err, io.EOF) && !follow, ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the agent hung up: %w", err)
		}
		tell(ev)
	}
}

func (c *Client) follow(ctx context.Context, path string, req any, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	r, err := c.send(ctx, http.MethodPost, path, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Body.Close() }()
	d := json.NewDecoder(r.Body)
	for {
		var ev wire.RotateEvent
		if err := d.Decode(&ev); err != nil {
			return nil, fmt.Errorf("the agent hung up during the rotation, which the next agent carries on: %w", err)
		}
		switch {
		case ev.Error != "":
			return nil, &RemoteError{wire.Problem{Error: ev.Error}}
		case ev.Step != nil:
			tell(*ev.Step)
		default:
			return ev.Done, nil
		}
	}
}

func (c *Client) send(ctx context.Context, method, path string, req any) (*http.Response, error) {
	if c.refuse != nil {
		return nil, c.refuse
	}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	hr, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r, err := c.http.Do(hr)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w (nobody serves %s)", ErrNoAgent, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w (%s)", ErrDenied, c.socket)
	case err != nil:
		return nil, fmt.Errorf("call the agent: %w", err)
	case r.StatusCode/100 == 2:
		return r, nil
	}
	defer func() { _ = r.Body.Close() }()
	var p wire.Problem
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		return nil, fmt.Errorf("call the agent: %s %s: HTTP status %s", method, path, r.Status)
	}
	return nil, &RemoteError{p}
}
