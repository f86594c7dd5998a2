package http

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config says where the endpoint is and how its answers are read.
type Config struct {
	URL     string // with {path} in it
	Value   string // JSON pointer (RFC 6901); empty: the whole answer
	Version string // JSON pointer; empty: the ETag, or a fingerprint
	Base64  bool   // the value is base64
	Timeout time.Duration
	TLS     rest.TLS
	// Headers returns what is sent with every request, the credential included. It
	// is asked for each request, because whoever gave the credential may change it.
	Headers func() (http.Header, error)
}

// Provider reads one endpoint.
type Provider struct {
	name   string
	cfg    Config
	client *http.Client
	fp     provider.Fingerprint

	mu    sync.Mutex
	etags map[string]etag // by path
}

// etag is the last one of a path, with the version that it stood for.
type etag struct {
	tag     string
	version secret.Version
}

var _ provider.Provider = (*Provider)(nil)

// New returns a provider of the endpoint.
func New(name string, cfg Config, fp provider.Fingerprint) (*Provider, error) {
	transport, err := rest.Transport(cfg.TLS)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return &Provider{
		name: name, cfg: cfg, fp: fp, etags: map[string]etag{},
		client: &http.Client{Transport: transport, CheckRedirect: rest.NoRedirect},
	}, nil
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	p.mu.Lock()
	known := p.etags[path]
	p.mu.Unlock()
	_, v, err := p.read(ctx, path, known)
	return v, provider.Explain(p.name, path, err)
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	value, v, err := p.read(ctx, path, etag{})
	if err == nil && want != "" && want != v {
		err = provider.ErrNoVersion
	}
	if err != nil {
		return secret.Value{}, "", provider.Explain(p.name, path, err)
	}
	return value, v, nil
}

// read asks the endpoint. With a known etag that still holds there is no value.
func (p *Provider) read(ctx context.Context, path string, known etag) (secret.Value, secret.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	r, err := p.request(ctx, path)
	if err != nil {
		return secret.Value{}, "", err
	}
	accept := []int{http.StatusOK}
	if known.tag != "" {
		r.Header.Set("If-None-Match", known.tag)
		accept = append(accept, http.StatusNotModified)
	}
	resp, body, err := rest.Do(p.client, r, accept...)
	if err != nil {
		return secret.Value{}, "", err
	}
	if resp.StatusCode == http.StatusNotModified {
		return secret.Value{}, known.version, nil
	}
	value, v, err := p.parse(resp.Header.Get("ETag"), body)
	if err != nil {
		return secret.Value{}, "", err
	}
	if tag := resp.Header.Get("ETag"); tag != "" {
		p.mu.Lock()
		p.etags[path] = etag{tag, v}
		p.mu.Unlock()
	}
	return secret.NewValue(value), v, nil
}

// request never shows the address in an error: url.Parse would.
func (p *Provider) request(ctx context.Context, path string) (*http.Request, error) {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.ReplaceAll(p.cfg.URL, "{path}", strings.Join(segments, "/")), nil)
	if err != nil {
		return nil, fmt.Errorf("the configured url is none (%w)", provider.ErrPermanent)
	}
	h, err := p.cfg.Headers()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrCredential, err)
	}
	r.Header = h
	if r.Header.Get("Accept") == "" && p.json() {
		r.Header.Set("Accept", "application/json")
	}
	return r, nil
}

func (p *Provider) json() bool { return p.cfg.Value != "" || p.cfg.Version != "" }

func (p *Provider) parse(tag string, body []byte) ([]byte, secret.Version, error) {
	value := body
	var version secret.Version
	if p.json() {
		var doc any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&doc); err != nil || d.More() {
			return nil, "", fmt.Errorf("%w: it is not JSON", provider.ErrMalformed) // err quotes the answer
		}
		var err error
		if p.cfg.Value != "" {
			if value, err = member(doc, p.cfg.Value); err != nil {
				return nil, "", err
			}
		}
		if p.cfg.Version != "" {
			text, err := member(doc, p.cfg.Version)
			if err != nil {
				return nil, "", err
			}
			if !bytes.Equal(text, value) { // a version is shown
				version = secret.Version(text)
			}
		}
	}
	if p.cfg.Base64 {
		decoded, err := base64.StdEncoding.AppendDecode(nil, value)
		if err != nil {
			return nil, "", fmt.Errorf("%w: the value is not base64", provider.ErrMalformed)
		}
		value = decoded
	}
	if len(value) > provider.MaxValue {
		return nil, "", fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	switch {
	case version != "":
	case tag != "":
		version = secret.Version(tag)
	default:
		version = p.fp.Version(value)
	}
	return value, version, nil
}

// member returns what a JSON pointer points to: the text of a string, the JSON of
// anything else.
func member(doc any, pointer string) ([]byte, error) {
	missing := fmt.Errorf("%w: it has no %s", provider.ErrMalformed, pointer)
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch x := doc.(type) {
		case map[string]any:
			next, ok := x[part]
			if !ok {
				return nil, missing
			}
			doc = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(x) {
				return nil, missing
			}
			doc = x[i]
		default:
			return nil, missing
		}
	}
	switch x := doc.(type) {
	case nil:
		return nil, missing
	case string:
		return []byte(x), nil
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, missing
	}
	return b, nil
}
