package testengine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// newAPI speaks to the engine over its socket. The few calls here need no
// client library, and so no version of one.
func (e *Engine) newAPI() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.Socket())
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

func (e *Engine) ping(ctx context.Context) error { return e.Get(ctx, "/_ping", nil, nil) }

// Get asks the engine itself: where a test looks again and again, a start of the docker CLI
// for each look would be most of the machine's work. into takes the JSON; nil: nothing does.
func (e *Engine) Get(ctx context.Context, path string, query url.Values, into any) error {
	answer, err := e.send(ctx, http.MethodGet, path, query, "", nil)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("call engine %s: %w", path, err)
	}
	return nil
}

// Exec runs a command in a container as docker exec does, and returns its output, both
// streams, without the space around it. A command that fails is an error.
func (e *Engine) Exec(ctx context.Context, container string, command ...string) (string, error) {
	var made struct {
		ID string `json:"Id"`
	}
	// With a terminal the output comes as it is, not in frames.
	request := map[string]any{"Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": true}
	if err := e.post(ctx, "/containers/"+container+"/exec", request, &made); err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]any{"Tty": true})
	if err != nil {
		return "", err
	}
	out, err := e.send(ctx, http.MethodPost, "/exec/"+made.ID+"/start", nil, "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	var ended struct{ ExitCode int }
	if err := e.Get(ctx, "/exec/"+made.ID+"/json", nil, &ended); err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(out))
	if ended.ExitCode != 0 {
		return text, fmt.Errorf("in %s, %s: exit code %d: %s", container, strings.Join(command, " "), ended.ExitCode, text)
	}
	return text, nil
}

// post sends and takes JSON.
func (e *Engine) post(ctx context.Context, path string, request, into any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	answer, err := e.send(ctx, http.MethodPost, path, nil, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// upload sends an archive, which the engine answers with a stream of messages.
func (e *Engine) upload(ctx context.Context, path string, query url.Values, archive io.Reader) error {
	answer, err := e.send(ctx, http.MethodPost, path, query, "application/x-tar", archive)
	if err != nil {
		return err
	}
	return streamError(answer)
}

// send returns the body of a successful answer.
func (e *Engine) send(ctx context.Context, method, path string, query url.Values, contentType string, body io.Reader) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "engine", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("call engine %s: %w", path, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := e.api.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call engine %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("call engine %s: %w", path, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("call engine %s: %s: %s", path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}

// streamError finds the error in an answer that began well: builds and imports
// report what went wrong as a message in the stream.
func streamError(answer []byte) error {
	dec := json.NewDecoder(bytes.NewReader(answer))
	for {
		var message struct{ Error string }
		if dec.Decode(&message) != nil {
			return nil
		}
		if message.Error != "" {
			return fmt.Errorf("engine: %s", message.Error)
		}
	}
}
