package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// Outcome is how the last exchange of a call went. The SDKs of the stores say it in
// texts of their own, quote the answer, and lose the cause on the way; the transport
// knows it.
type Outcome struct {
	mu  sync.Mutex
	any bool
	err error
}

type outcomeKey struct{}

// WithOutcome returns a context whose requests, sent through [Telling], report to
// the outcome.
func WithOutcome(ctx context.Context) (context.Context, *Outcome) {
	o := &Outcome{}
	return context.WithValue(ctx, outcomeKey{}, o), o
}

func (o *Outcome) set(err error) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.any, o.err = true, err
}

// Explain returns what an error of an SDK means, without its text; nil stays nil.
// An SDK that has nothing to complain about but the content of an answer got none of
// the store's; one that asked nobody has no credential to ask with.
func (o *Outcome) Explain(ctx context.Context, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case o.err != nil:
		return o.err
	case ctx.Err() != nil:
		return fmt.Errorf("the store is not reached: %w", ctx.Err())
	case o.any:
		return fmt.Errorf("%w: it is not what this store answers", provider.ErrMalformed)
	}
	return fmt.Errorf("%w: there is none to ask with", provider.ErrCredential)
}

// Telling returns a transport that reads every answer to its end and reports to the
// outcome in the request's context. For the transport that gets the credential, a
// refusal is one of the credential, whatever its status.
func Telling(next http.RoundTripper, credential bool) http.RoundTripper {
	return &telling{next, credential, nil}
}

// Through is [Telling] for a client that gives its requests no context of the caller's:
// whatever passes reports to this outcome.
func (o *Outcome) Through(next http.RoundTripper, credential bool) http.RoundTripper {
	return &telling{next, credential, o}
}

// What is read of a refusal, and of an answer with a credential, in bytes.
const (
	maxRefusal    = 64 << 10
	maxCredential = 1 << 20
)

type telling struct {
	next       http.RoundTripper
	credential bool
	fixed      *Outcome // nil: the one in the request's context
}

func (t *telling) RoundTrip(r *http.Request) (*http.Response, error) {
	o := t.fixed
	if o == nil {
		o, _ = r.Context().Value(outcomeKey{}).(*Outcome)
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		o.set(t.explain(Failed(err)))
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		o.set(t.explain(Refusal(resp)))
		// What a refusal says more is for the SDK; it may be cut off.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	}
	if t.credential {
		resp.Body = &limitedBody{resp.Body, maxCredential}
	}
	_, body, err := Answer(resp, resp.StatusCode)
	if err = t.explain(err); err != nil {
		o.set(err)
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	o.set(nil)
	return resp, nil
}

func (t *telling) explain(err error) error {
	switch {
	case !t.credential || err == nil:
		return err
	case provider.Retryable(err), errors.Is(err, ErrElsewhere), errors.Is(err, provider.ErrTooLarge):
		return fmt.Errorf("get a credential: %w", err)
	}
	// The status was said to DSO, not about the secret.
	return fmt.Errorf("get a credential: %w: %s", provider.ErrCredential, err.Error())
}
