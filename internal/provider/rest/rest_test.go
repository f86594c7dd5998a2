package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
)

func TestRetryAfter_HasTwoForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": 24 * time.Hour, "999999": 24 * time.Hour,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0,
	} {
		assert.Equal(t, retryAfter(http.Header{"Retry-After": {text}}, now), want, text)
	}
}

func TestStatus_MeansWhatTheContractSays(t *testing.T) {
	for code, want := range map[int]error{
		404: provider.ErrNotFound, 403: provider.ErrDenied, 401: provider.ErrCredential,
		400: provider.ErrPermanent, 405: provider.ErrPermanent, 301: provider.ErrPermanent, 204: provider.ErrMalformed,
	} {
		assert.ErrorIs(t, Refusal(&http.Response{StatusCode: code}), want, "%d", code)
	}
	for _, code := range []int{408, 429, 500, 502, 503, 504} {
		err := Refusal(&http.Response{StatusCode: code, Header: http.Header{"Retry-After": {"3"}}})
		assert.Assert(t, provider.Retryable(err), "%d", code)
		assert.Equal(t, provider.RetryAfter(err), 3*time.Second, "%d", code)
	}
}

// What the errors of Go's packages quote of a server is left out, and so is the address.
func TestFailed_TakesOverTheKindOfAnErrorAndNoText(t *testing.T) {
	const canary = "canary"
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		err  error
		says string
		is   error // nil: nothing
	}{
		{context.Canceled, "not reached: context canceled", context.Canceled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "not reached: context deadline exceeded", context.DeadlineExceeded},
		{refused, "not reached: dial 127.0.0.1:9: connection refused", syscall.ECONNREFUSED},
		{&net.DNSError{Name: "store.example", Err: canary, IsNotFound: true}, "no such host: store.example", nil},
		{&net.DNSError{Name: "store.example", Err: canary}, "store.example is not resolved", nil},
		{x509.UnknownAuthorityError{Cert: &x509.Certificate{Subject: pkix.Name{CommonName: canary}}}, "nobody that is trusted", ErrElsewhere},
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{canary}}, Host: "store"}, "for another name", ErrElsewhere},
		{x509.CertificateInvalidError{Reason: x509.Expired, Detail: canary}, "expired", ErrElsewhere},
		{&tls.CertificateVerificationError{Err: errors.New(canary)}, "cannot be verified", ErrElsewhere},
		{http.ErrSchemeMismatch, "is http:// meant?", provider.ErrMalformed},
		{io.ErrUnexpectedEOF, "closes the connection", nil},
		{errors.New(canary), "not one of HTTP", provider.ErrMalformed},
	} {
		err := Failed(&url.Error{Op: "Get", URL: "https://x/?key=" + canary, Err: c.err})
		assert.ErrorContains(t, err, c.says)
		assert.Assert(t, !strings.Contains(fmt.Sprintf("%+v", err), canary), "%v", err)
		assert.Assert(t, c.is == nil || errors.Is(err, c.is), "%v", err)
		assert.Equal(t, Failed(&url.Error{Op: "Get", URL: canary, Err: err}).Error(), err.Error(), "it is said once")
	}
}

func TestTransport_SaysWhatIsWrongOnThisSide(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tls" {
			http.Error(w, "Client sent an HTTP request to an HTTPS server.", http.StatusBadRequest)
			return
		}
		http.Error(w, "another reason", http.StatusBadRequest)
	}))
	t.Cleanup(srv.Close)
	transport, err := Transport(TLS{})
	assert.NilError(t, err)
	ask := func(path, header string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		assert.NilError(t, err)
		r.Header.Set("X-Tenant", header)
		return (&http.Client{Transport: transport}).Do(r)
	}
	_, err = ask("/tls", "shop") //nolint:bodyclose // there is none
	assert.ErrorIs(t, Failed(err), ErrElsewhere)
	assert.ErrorContains(t, Failed(err), "must begin with https://")
	_, err = ask("/", "sh\r\nop") //nolint:bodyclose // there is none
	assert.ErrorIs(t, Failed(err), provider.ErrCredential)
	assert.ErrorContains(t, Failed(err), "header X-Tenant has a character that cannot be sent")
	resp, err := ask("/", "shop")
	assert.NilError(t, err)
	body, err := io.ReadAll(resp.Body)
	assert.NilError(t, err)
	assert.NilError(t, resp.Body.Close())
	assert.Equal(t, string(body), "another reason\n")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What a server says to a connection that is being closed comes in now and then.
func TestTransport_TakesNoAnswerOfARequestThatWasGivenUp(t *testing.T) {
	late := &limited{roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://store", nil)
	assert.NilError(t, err)
	_, _, err = Do(&http.Client{Transport: late}, r, http.StatusOK) //nolint:bodyclose // Do closes it
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	r = r.WithContext(t.Context())
	_, _, err = Do(&http.Client{Transport: late, Timeout: time.Millisecond}, r, http.StatusOK) //nolint:bodyclose // Do closes it
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}
