package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/private"
)

// redial is how often a socket that nobody serves is tried again.
const redial = 25 * time.Millisecond

// ask gets the values from the agent. While no agent is there, or one that dies
// before it has answered, it keeps trying until the deadline, because a start
// that fails is never retried by the engine.
func ask(o Options, req wire.DeliverRequest) (wire.DeliverResponse, error) {
	end := time.Now().Add(o.Deadline)
	for {
		conn, err := dial(o.Socket, end)
		if err != nil {
			return wire.DeliverResponse{}, fmt.Errorf("cannot resolve %s: no agent answers on %s (waited %s): %w; is dso-agent running?",
				req.References[0].Ref, o.Socket, o.Deadline, err)
		}
		resp, err := exchange(conn, req, end)
		switch {
		case err == nil && resp.Error != "":
			return resp, errors.New(resp.Error)
		case err == nil:
			return resp, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return resp, fmt.Errorf("cannot resolve %s: the agent did not answer within %s", req.References[0].Ref, o.Deadline)
		case time.Now().Add(redial).After(end):
			return resp, fmt.Errorf("cannot resolve %s: the agent hung up: %w", req.References[0].Ref, err)
		}
		time.Sleep(redial)
	}
}

// telling bounds how long a refusal waits for an agent to tell it to.
const telling = time.Second

// tell gives the agent a request whose answer is known. Without an agent nobody keeps
// a record of it.
func tell(o Options, req wire.DeliverRequest) {
	end := time.Now().Add(min(o.Deadline, telling))
	if conn, err := dial(o.Socket, end); err == nil {
		_, _ = exchange(conn, req, end)
	}
}

func exchange(conn net.Conn, req wire.DeliverRequest, end time.Time) (resp wire.DeliverResponse, err error) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(end)
	if err := wire.Write(conn, req); err != nil {
		return resp, err
	}
	return resp, wire.Read(conn, &resp)
}

func dial(socket string, end time.Time) (net.Conn, error) {
	for {
		conn, err := net.DialTimeout("unix", socket, time.Until(end))
		if err == nil || time.Now().Add(redial).After(end) {
			return conn, err
		}
		time.Sleep(redial)
	}
}

// startedWith returns what the container was started with; nothing when it was started
// without references, or that is not known.
func startedWith(root, containerID string) (s wire.Started) {
	data, err := os.ReadFile(private.EnvFile(root, containerID))
	if err != nil || json.Unmarshal(data, &s) != nil {
		return wire.Started{}
	}
	return s
}

// known returns the values that the container was started with, as far as they
// answer the request, and the references that they leave open.
func known(started wire.Started, req wire.DeliverRequest) (env map[string][]byte, open []wire.Reference) {
	env = map[string][]byte{}
	for _, r := range req.References {
		if value, ok := started.Values[r.Ref]; ok {
			env[r.Variable] = value
		} else {
			open = append(open, r)
		}
	}
	return env, open
}
