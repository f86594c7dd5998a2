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

func (e *Engine) ping(ctx context.Context) error {
	_, err := e.call(ctx, http.MethodGet, "/_ping", nil, nil)
	return err
}

// call returns the body of a successful answer.
func (e *Engine) call(ctx context.Context, method, path string, query url.Values, body io.Reader) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "engine", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("call engine %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
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
	return answer, streamError(answer)
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
