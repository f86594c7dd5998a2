package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

// MaxBody bounds an answer, in bytes: the greatest value in base64, and room.
const MaxBody = provider.MaxValue/3*4 + 1<<20

// ErrElsewhere says that something that is not the store stands in its place: a
// redirect, or a server whose certificate is not trusted. Permanent.
var ErrElsewhere = fmt.Errorf("this is not the configured store (%w)", provider.ErrPermanent)

// TLS says whom to trust and who we are. All files are PEM.
type TLS struct {
	CAFile     string // empty: the system's certificates
	ServerName string // empty: the name in the address
	CertFile   string // of the client; read again for each connection
	KeyFile    string
}

// Transport returns a transport that keeps the invariants of the package, in what
// net/http logs too. A server whose answer it gives up is told so by closing the
// connection.
func Transport(t TLS) (http.RoundTripper, error) {
	stdlog.Silence()
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, &failure{fmt.Errorf("read client certificate: %w", err)}
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return &limited{&http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:       c,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}}, nil
}

// NoRedirect is a client's CheckRedirect: the redirect itself is the answer.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// limited ends the body of every answer with provider.ErrTooLarge when it is longer
// than MaxBody, and says in words of its own why there is none.
type limited struct{ next http.RoundTripper }

func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := sendable(r.Header); err != nil {
		return nil, err
	}
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, Failed(err)
	}
	// A server that is told that nobody waits any more may still say something, usually
	// nothing at all with status 200, which net/http now and then takes for the answer.
	if err := r.Context().Err(); err != nil {
		_ = resp.Body.Close()
		return nil, Failed(err)
	}
	if r.URL.Scheme == "http" && resp.StatusCode == http.StatusBadRequest {
		if err := unencrypted(resp); err != nil {
			return nil, err
		}
	}
	resp.Body = &limitedBody{resp.Body, MaxBody}
	return resp, nil
}

type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, provider.ErrTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Do sends a request and returns the whole answer when its status is one of those
// accepted. The caller's ctx must have a deadline.
func Do(c *http.Client, r *http.Request, accept ...int) (*http.Response, []byte, error) {
	resp, err := c.Do(r)
	if err != nil {
		return nil, nil, Failed(err)
	}
	return Answer(resp, accept...)
}

// Answer reads an answer to its end when its status is one of those accepted, and
// says what it means when it is not.
func Answer(resp *http.Response, accept ...int) (*http.Response, []byte, error) {
	defer func() { _ = resp.Body.Close() }()
	for _, status := range accept {
		if resp.StatusCode != status {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		switch {
		case errors.Is(err, provider.ErrTooLarge):
			return resp, nil, fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, MaxBody)
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return resp, nil, fmt.Errorf("read the answer: %w", err)
		case err != nil:
			return resp, nil, fmt.Errorf("%w: it was cut off", provider.ErrMalformed)
		}
		return resp, body, nil
	}
	return resp, nil, Refusal(resp)
}

// Refusal says what the status of an answer means, which is none that was hoped for.
func Refusal(resp *http.Response) error {
	code := resp.StatusCode
	switch {
	case code == http.StatusNotFound:
		return fmt.Errorf("%w (status 404)", provider.ErrNotFound)
	case code == http.StatusForbidden:
		return fmt.Errorf("%w (status 403)", provider.ErrDenied)
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%w (status 401)", provider.ErrCredential)
	case code == http.StatusTooManyRequests:
		return &provider.Throttled{After: RetryAfter(resp.Header)}
	case code == http.StatusRequestTimeout, code >= 500:
		if after := RetryAfter(resp.Header); after > 0 {
			return fmt.Errorf("the store answers with status %d: %w", code, &provider.Throttled{After: after})
		}
		return fmt.Errorf("the store answers with status %d", code)
	case code >= 300 && code < 400:
		return fmt.Errorf("the store answers with a redirect (status %d), which is not followed: give the address that it points to (%w)", code, ErrElsewhere)
	case code >= 200 && code < 300:
		return fmt.Errorf("%w (status %d)", provider.ErrMalformed, code)
	}
	return fmt.Errorf("the store refuses the request with status %d (%w)", code, provider.ErrPermanent)
}

// RetryAfter reads the header of that name; zero when there is none.
func RetryAfter(h http.Header) time.Duration { return retryAfter(h, time.Now()) }

// retryAfter knows both forms of the header (RFC 9110, 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil {
		return max(0, time.Duration(min(n, 86400))*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
