package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
)

// Destination is somebody who is told.
type Destination struct {
	Name     string
	URL      func() (secret.Value, error)
	Key      func() (secret.Value, error) // nil: nothing is signed
	Format   string                       // json or slack
	Template string                       // for slack
	Topics   []string
	Timeout  time.Duration // of one attempt
	Attempts int
}

// client follows no redirect and keeps no connection: events are rare.
var client = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// refusal is an answer that is not 2xx.
type refusal struct {
	status int
	after  time.Duration // Retry-After
}

func (r *refusal) Error() string {
	return fmt.Sprintf("it answered %d %s", r.status, http.StatusText(r.status))
}

// permanent reports whether another attempt would be answered the same.
func permanent(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	return r.status < 500 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests
}

// attempt sends a message once. Its errors do not show the address.
func (d Destination) attempt(ctx context.Context, m Message, now time.Time) (status int, err error) {
	body, err := d.body(m)
	if err != nil {
		return 0, err
	}
	address, err := d.URL()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(address.Reveal()), bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("its address cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "dso-agent")
	if d.Key != nil {
		key, err := d.Key()
		if err != nil {
			return 0, err
		}
		timestamp := strconv.FormatInt(now.Unix(), 10)
		req.Header.Set(webhook.HeaderTimestamp, timestamp)
		req.Header.Set(webhook.HeaderSignature, webhook.Sign(key, timestamp, body))
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, withoutAddress(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, &refusal{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"))}
	}
	return resp.StatusCode, nil
}

// withoutAddress takes the URL out of an error of net/http.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func retryAfter(text string) time.Duration {
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, lastPause)
}

// The pause after a failed attempt doubles from the first to the last.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// deliver sends a message until it is taken, nobody will take it, or ctx ends.
func (d Destination) deliver(ctx context.Context, m Message) error {
	pause := firstPause
	for n := 1; ; n++ {
		_, err := d.attempt(ctx, m, time.Now())
		if err == nil || ctx.Err() != nil {
			return err
		}
		if permanent(err) || n >= d.Attempts {
			return fmt.Errorf("after %d attempts: %w", n, err)
		}
		wait := pause
		var r *refusal
		if errors.As(err, &r) {
			wait = max(wait, r.after)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		pause = min(2*pause, lastPause)
	}
}
