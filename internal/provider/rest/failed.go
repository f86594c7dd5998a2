package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// failure is an error in words of our own. It is found again in those that net/http and
// the SDKs put around it, with the address of the request or worse.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Failed says why a request got no answer. Nothing is taken over from an error of
// net/http, crypto/tls or crypto/x509 but its kind: their texts quote what the server
// sent, its certificate included, and the address, whose query may hold a credential.
func Failed(err error) error {
	var known *failure
	if !errors.As(err, &known) {
		known = &failure{classify(err)}
	}
	return known
}

func classify(err error) error {
	const format = "the store is not reached: %s%w"
	var dns *net.DNSError
	var op *net.OpError
	var errno syscall.Errno
	var record tls.RecordHeaderError
	var timeout net.Error
	where := ""
	if errors.As(err, &op) && op.Op == "dial" && op.Addr != nil {
		where = fmt.Sprintf("dial %s: ", op.Addr)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf(format, where, context.Canceled)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("the store is not reached: no such host: %s", dns.Name)
	case errors.As(err, &dns):
		return fmt.Errorf("the store is not reached: the name %s is not resolved now", dns.Name)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf(format, where, context.DeadlineExceeded)
	case untrusted(err) != "":
		return fmt.Errorf("the TLS connection is refused: %s (%w)", untrusted(err), ErrElsewhere)
	case op != nil && (op.Op == "remote error" || op.Op == "local error"): // an alert has one of a few texts
		return fmt.Errorf("the TLS connection is refused: %s: %w", op.Op, op.Err)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return fmt.Errorf("%w: it is not one of TLS: is http:// meant?", provider.ErrMalformed)
	case errors.As(err, &errno):
		return fmt.Errorf(format, where, errno)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("the store is not reached: %sit does not answer in time", where)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the store is not reached: it closes the connection without an answer")
	}
	return fmt.Errorf("%w: it is not one of HTTP, or it was cut off", provider.ErrMalformed)
}

// untrusted says what is wrong with a server's certificate; empty: nothing.
func untrusted(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		return "nobody that is trusted has signed its certificate"
	case errors.As(err, &host):
		return "its certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "its certificate cannot be verified"
	}
	return ""
}

// sendable refuses a header that net/http would refuse after it, with an error that is
// not ours.
func sendable(h http.Header) error {
	for name, values := range h {
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return &failure{fmt.Errorf("%w: header %s has a character that cannot be sent, such as a newline", provider.ErrCredential, name)}
			}
		}
	}
	return nil
}

// What servers say to a request without TLS where they speak it.
var wantTLS = [][]byte{[]byte("HTTP request to an HTTPS server"), []byte("HTTP request was sent to HTTPS port"), []byte("plain HTTP to an SSL-enabled server port")}

// unencrypted says whether an answer is only about the missing TLS. One that is about
// something else is left as it was.
func unencrypted(resp *http.Response) error {
	const most = 4 << 10
	said, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	for _, text := range wantTLS {
		if bytes.Contains(said, text) {
			_ = resp.Body.Close()
			return &failure{fmt.Errorf("the store speaks TLS: its address must begin with https:// (%w)", ErrElsewhere)}
		}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(said), resp.Body), resp.Body}
	return nil
}
