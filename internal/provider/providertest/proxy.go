package providertest

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// Proxy stands in front of a store that speaks HTTP, over TLS on loopback, and
// injects faults.
type Proxy struct {
	URL    string
	CAFile string // PEM, what a client must trust

	server *httptest.Server
	trap   *httptest.Server
	other  tls.Certificate
	next   http.Handler

	mu      sync.Mutex
	fault   Fault
	special map[Fault]http.HandlerFunc
	done    chan struct{}
	seen    int
	raw     sync.WaitGroup // connections over which something else than HTTP went
}

// NewProxy starts a proxy in front of a handler, or of the server at an address.
func NewProxy(t *testing.T, backend any) *Proxy {
	p := &Proxy{done: make(chan struct{}), special: map[Fault]http.HandlerFunc{}}
	switch b := backend.(type) {
	case http.Handler:
		p.next = b
	case string:
		u, err := url.Parse(b)
		assert.NilError(t, err)
		rp := httputil.NewSingleHostReverseProxy(u)
		rp.ErrorLog = log.New(io.Discard, "", 0)
		p.next = rp
	default:
		t.Fatalf("no backend: %T", backend)
	}
	p.trap = httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed: the credential went to another server")
	}))
	p.other = otherCertificate(t)
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.StartTLS()
	good := p.server.TLS.Certificates[0]
	p.server.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if p.now() == BadTLS {
			return &tls.Config{Certificates: []tls.Certificate{p.other}}, nil
		}
		return &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequestClientCert}, nil
	}
	p.URL = p.server.URL
	p.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	assert.NilError(t, os.WriteFile(p.CAFile, block, 0o600))
	t.Cleanup(func() { close(p.done); p.server.CloseClientConnections(); p.server.Close(); p.trap.Close() })
	return p
}

// Requests returns how many requests came.
func (p *Proxy) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// Special says how this kind of store shows a fault.
func (p *Proxy) Special(f Fault, h http.HandlerFunc) { p.special[f] = h }

// Pass gives a request to the store itself.
func (p *Proxy) Pass(w http.ResponseWriter, r *http.Request) { p.next.ServeHTTP(w, r) }

// Inject implements the function of a [Store]. Connections that stand are closed:
// a fault of TLS shows on new ones only.
func (p *Proxy) Inject(f Fault) bool {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
	p.raw.Wait() // a client logs what is wrong with a connection before it closes it
	p.server.CloseClientConnections()
	return true
}

func (p *Proxy) now() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	fault := p.fault
	p.seen++
	p.mu.Unlock()
	if h := p.special[fault]; h != nil {
		h(w, r)
		return
	}
	said := fmt.Sprintf(`{"errors": [%q], "error": %q}`, marker, Canary)
	w.Header().Set("X-Canary", Canary)
	if text, ok := notHTTP[fault]; ok {
		p.write(w, []byte(text))
		return
	}
	switch fault {
	case Surplus:
		p.surplus(w, r)
	case Denied:
		http.Error(w, said, http.StatusForbidden)
	case Expired:
		http.Error(w, said, http.StatusUnauthorized)
	case Throttled:
		w.Header().Set("Retry-After", strconv.Itoa(int(ThrottleFor.Seconds())))
		http.Error(w, said, http.StatusTooManyRequests)
	case Unavailable:
		http.Error(w, said, http.StatusServiceUnavailable)
	case Slow:
		select {
		case <-r.Context().Done():
		case <-p.done:
		}
	case Truncated:
		p.truncated(w, r)
	case Malformed:
		_, _ = io.WriteString(w, `{"data": {"value": "`+marker+`", `+Canary)
	case Foreign:
		_, _ = io.WriteString(w, `<html><body>`+marker+Canary+`</body></html>`)
	case Empty:
	case Endless:
		p.endless(w)
	case Redirect:
		http.Redirect(w, r, p.trap.URL+"/?token="+Canary, http.StatusTemporaryRedirect)
	case Refused:
		panic(http.ErrAbortHandler)
	default:
		p.next.ServeHTTP(w, r)
	}
}

// truncated promises the whole answer and sends half of it.
func (p *Proxy) truncated(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	p.next.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	maps.Copy(w.Header(), rec.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+2))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// surplus sends the whole answer, and more than its length says.
func (p *Proxy) surplus(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	p.next.ServeHTTP(rec, r)
	rec.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", rec.Code, http.StatusText(rec.Code))
	_ = rec.Header().Write(&b)
	_, _ = fmt.Fprintf(&b, "\r\n%s%s %s\r\n\r\n", rec.Body, Canary, marker)
	p.write(w, b.Bytes())
}

// write sends bytes as they are, and waits until the client closes the connection.
func (p *Proxy) write(w http.ResponseWriter, text []byte) {
	p.raw.Add(1)
	defer p.raw.Done()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write(text)
	_, _ = io.Copy(io.Discard, conn)
}

func (p *Proxy) endless(w http.ResponseWriter) {
	_, _ = io.WriteString(w, `{"data": {"value": "`)
	chunk := bytes.Repeat([]byte(Canary), 4096)
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		select {
		case <-p.done:
			return
		default:
		}
	}
}
