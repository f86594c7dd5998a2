package providertest

import (
	"bytes"
	"context"
	"errors"
	"log"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// Fault is one way in which a store misbehaves.
type Fault string

// The faults. Each lasts until the next one is injected.
const (
	None        Fault = ""
	Denied      Fault = "denied"           // the store refuses this secret
	Expired     Fault = "expired"          // it no longer accepts the credential, nor gives another
	Throttled   Fault = "throttled"        // it asks to wait ThrottleFor
	Unavailable Fault = "unavailable"      // it says that it cannot answer now
	Slow        Fault = "slow"             // it accepts the call and does not answer
	Truncated   Fault = "truncated"        // the answer ends in the middle
	Malformed   Fault = "malformed"        // the answer is not of its kind
	Empty       Fault = "empty"            // the answer has no content
	Endless     Fault = "endless"          // the answer does not end
	Redirect    Fault = "redirect"         // the answer points to another place
	BadTLS      Fault = "bad certificate"  // its certificate is nobody's that is trusted
	Refused     Fault = "refuses to talk"  // the connection is closed at once
	Foreign     Fault = "foreign document" // the answer is an HTML page
	BadLine     Fault = "bad first line"   // the answer is not of HTTP
	BadStatus   Fault = "bad status"       // nor is its status
	BadHeader   Fault = "bad header"
	BadEncoding Fault = "bad transfer-encoding"
	BadLength   Fault = "bad content-length"
	Surplus     Fault = "surplus" // the answer is longer than it says
)

// notHTTP are the answers of a store that breaks HTTP itself, in a way of which net/http
// tells by quoting it.
var notHTTP = map[Fault]string{
	BadLine:     marker + Canary + "\r\n\r\n",
	BadStatus:   "HTTP/1.1 " + marker + Canary + "\r\n\r\n",
	BadHeader:   "HTTP/1.1 200 OK\r\n" + marker + " " + Canary + "\r\n\r\n",
	BadEncoding: "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + marker + Canary + "\r\n\r\n",
	BadLength:   "HTTP/1.1 200 OK\r\nContent-Length: " + marker + Canary + "\r\n\r\n",
}

// OfHTTP are the faults that only a store that speaks HTTP can show.
var OfHTTP = append(slices.Collect(maps.Keys(notHTTP)), Surplus, Redirect, BadTLS)

// ThrottleFor is how long a store asks to wait under [Throttled].
const ThrottleFor = 7 * time.Second

// Store is a store under test, with a provider that reads it.
type Store struct {
	Provider provider.Provider
	Put      Put
	// Inject makes the store show a fault from now on. It returns false when a
	// store of this kind cannot.
	Inject func(Fault) bool
	// Renew makes the credential that the provider holds worthless, in a way that
	// it gets over by itself. Nil: the kind of store has no such thing.
	Renew func(t *testing.T)
}

// faults are what a provider makes of them.
var faults = map[Fault]func(t *testing.T, err error){
	Denied:      is(provider.ErrDenied, false),
	Expired:     is(provider.ErrCredential, false),
	Unavailable: is(nil, true),
	Slow:        is(context.DeadlineExceeded, true),
	Truncated:   is(provider.ErrMalformed, true),
	Malformed:   is(provider.ErrMalformed, true),
	Foreign:     is(provider.ErrMalformed, true),
	Empty:       is(provider.ErrMalformed, true),
	Endless:     is(provider.ErrTooLarge, false),
	Redirect:    is(provider.ErrPermanent, false),
	BadTLS:      is(provider.ErrPermanent, false),
	Refused:     is(nil, true),
	BadLine:     is(provider.ErrMalformed, true),
	BadStatus:   is(provider.ErrMalformed, true),
	BadHeader:   is(provider.ErrMalformed, true),
	BadEncoding: is(provider.ErrMalformed, true),
	BadLength:   is(provider.ErrMalformed, true),
	Throttled: func(t *testing.T, err error) {
		assert.Assert(t, provider.Retryable(err), "%v", err)
		assert.Equal(t, provider.RetryAfter(err), ThrottleFor)
	},
}

func is(target error, retryable bool) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		if target != nil {
			assert.ErrorIs(t, err, target)
		}
		assert.Equal(t, provider.Retryable(err), retryable, "%v", err)
	}
}

// RunFaults runs the part of the suite that is about stores that misbehave. open is
// called once for each case, with a store that has no fault yet. The faults that
// the kind of store cannot show are named by the caller, so that none is left out
// by accident.
func RunFaults(t *testing.T, open func(t *testing.T) Store, opts Options, cannot ...Fault) {
	if opts.Path == "" {
		opts.Path = "app/x"
	}
	left := map[Fault]bool{}
	for _, f := range cannot {
		left[f] = true
	}
	for fault, check := range faults {
		if left[fault] {
			continue
		}
		t.Run("Fault_"+string(fault), func(t *testing.T) { misbehaving(t, open(t), opts, fault, check) })
	}
	if !left[Surplus] {
		t.Run("Fault_"+string(Surplus), func(t *testing.T) { unlogged(t, open, opts) })
	}
	t.Run("Credential_IsRenewed", func(t *testing.T) {
		s := open(t)
		if s.Renew == nil {
			return
		}
		s.Put(opts.Path, []byte(marker))
		for range 3 {
			value, _, err := get(t, s.Provider, "", opts)
			assert.NilError(t, err)
			assert.Equal(t, value, marker)
			s.Renew(t)
			_, err = s.Provider.Version(t.Context(), opts.Path)
			assert.NilError(t, err)
		}
	})
}

// misbehaving lets the store show the fault before the provider ever saw it well,
// after that, and not any more.
func misbehaving(t *testing.T, s Store, o Options, fault Fault, check func(*testing.T, error)) {
	s.Put(o.Path, []byte(marker))
	for range 2 {
		assert.Assert(t, s.Inject(fault), "the harness cannot inject %q", fault)
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if fault == Slow {
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		}
		began := time.Now()
		_, _, err := s.Provider.Get(ctx, o.Path, "")
		assertExplained(t, err, o.Path)
		check(t, err)
		_, err = s.Provider.Version(ctx, o.Path)
		assertExplained(t, err, o.Path)
		check(t, err)
		cancel()
		limit := 5 * time.Second
		if fault == Endless { // much is read before it is too much
			limit = 30 * time.Second
		}
		assert.Assert(t, time.Since(began) < limit, "took %s", time.Since(began))

		s.Inject(None)
		value, _, err := get(t, s.Provider, "", o)
		assert.NilError(t, err, "after the fault")
		assert.Equal(t, value, marker)
	}
}

// unlogged lets the store send more than it has promised: the default logger, of which
// nobody can take anything back, is not told what.
func unlogged(t *testing.T, open func(t *testing.T) Store, o Options) {
	before := log.Writer()
	t.Cleanup(func() { log.SetOutput(before) })
	var said logged
	log.SetOutput(&said)
	s := open(t)
	s.Put(o.Path, []byte(marker))
	assert.Assert(t, s.Inject(Surplus), "the harness cannot inject %q", Surplus)
	// It is the next answer for a provider that asks at once over the same connection.
	if _, _, err := s.Provider.Get(t.Context(), o.Path, ""); err != nil {
		assertExplained(t, err, o.Path)
		is(provider.ErrMalformed, true)(t, err)
	}
	s.Inject(None)
	assert.Equal(t, said.String(), "")
}

// logged keeps what goroutines write at the same time.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// assertExplained fails when an error does not say what it is about, or says too
// much.
func assertExplained(t *testing.T, err error, path string) {
	t.Helper()
	assert.Assert(t, err != nil)
	assertSilent(t, err)
	var e *provider.Error
	assert.Assert(t, errors.As(err, &e), "the error names no provider: %v", err)
	assert.Equal(t, e.Path, path)
	assert.Assert(t, e.Provider != "")
}
