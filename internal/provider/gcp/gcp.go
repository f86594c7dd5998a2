package gcp

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config says where the secrets are and who we are.
type Config struct {
	Project  string
	Location string // of regional secrets; empty: global ones
	Endpoint string // empty: Google's
	Timeout  time.Duration
	TLS      rest.TLS
	// Credentials returns a JSON file of Google's. Nil: the default chain.
	Credentials func() (secret.Value, error)
}

// Provider reads the secrets of one project.
type Provider struct {
	name   string
	cfg    Config
	base   string // of all addresses
	client *http.Client
	tokens *tokens
	plain  sync.Map // paths whose versions may not be looked at
}

var _ provider.Provider = (*Provider)(nil)

// New returns a provider. No server is asked yet.
func New(name string, cfg Config) (*Provider, error) {
	transport, err := rest.Transport(cfg.TLS)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	host, parent := "https://secretmanager.googleapis.com", "projects/"+cfg.Project
	if cfg.Location != "" {
		host, parent = "https://secretmanager."+cfg.Location+".rep.googleapis.com", parent+"/locations/"+cfg.Location
	}
	if cfg.Endpoint != "" {
		host = strings.TrimRight(cfg.Endpoint, "/")
	}
	return &Provider{
		name: name, cfg: cfg, base: host + "/v1/" + parent + "/secrets/",
		client: &http.Client{Transport: transport, CheckRedirect: rest.NoRedirect},
		tokens: newTokens(cfg, transport),
	}, nil
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	var found version
	err := p.with(ctx, path, func(ctx context.Context, token string) (err error) {
		if found, err = p.look(ctx, token, path, "latest"); err == nil && found.created == "" {
			_, found, err = p.access(ctx, token, path, "latest")
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return found.name(), nil
}

// Get implements [provider.Provider]. The version is looked at first: the answer with
// the value does not say when it was made.
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	var value []byte
	var found version
	err := p.with(ctx, path, func(ctx context.Context, token string) (err error) {
		number := "latest"
		if want != "" {
			if number, _, _ = strings.Cut(string(want), "-"); !isNumber.MatchString(number) {
				return provider.ErrNoVersion
			}
		}
		looked, err := p.look(ctx, token, path, number)
		if err == nil && looked.number != "" {
			number = looked.number
		}
		if err == nil {
			value, found, err = p.access(ctx, token, path, number)
			found.created = looked.created
		}
		switch {
		case want != "" && errors.Is(err, provider.ErrNotFound):
			return provider.ErrNoVersion
		case err == nil && want != "" && found.name() != want:
			return provider.ErrNoVersion // of that number, but of an earlier life
		}
		return err
	})
	if err != nil {
		return secret.Value{}, "", err
	}
	return secret.NewValue(value), found.name(), nil
}

var (
	isName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	isNumber = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
)

// with calls work with a token, again with another when the one before turns out to be
// no good.
func (p *Provider) with(ctx context.Context, path string, work func(ctx context.Context, token string) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	return provider.Explain(p.name, path, func() error {
		if !isName.MatchString(path) {
			return fmt.Errorf("a secret's name in Google Cloud has letters, digits, - and _ only (%w)", provider.ErrPermanent)
		}
		for second := false; ; second = true {
			token, err := p.tokens.token(ctx)
			if err != nil {
				return err
			}
			if err = work(ctx, token); second || !errors.Is(err, provider.ErrCredential) {
				return err
			}
			if err := p.tokens.rejected(ctx, token); err != nil {
				return err
			}
		}
	}())
}

// version is one version of a secret.
type version struct {
	number  string
	created string // empty: it may not be looked at
}

// name is the version's name outside.
func (v version) name() secret.Version {
	if v.created == "" {
		return secret.Version(v.number)
	}
	sum := sha256.Sum256([]byte(v.created))
	return secret.Version(fmt.Sprintf("%s-%x", v.number, sum[:3]))
}

// look returns a version without its value; an empty one where that is not allowed.
func (p *Provider) look(ctx context.Context, token, path, number string) (version, error) {
	if _, denied := p.plain.Load(path); denied {
		return version{}, nil
	}
	var a struct {
		Name       string `json:"name"`
		CreateTime string `json:"createTime"`
		State      string `json:"state"`
	}
	err := p.ask(ctx, token, path+"/versions/"+number, &a)
	if errors.Is(err, provider.ErrDenied) {
		// Whether the value may be read is said when it is.
		if _, _, valueErr := p.access(ctx, token, path, number); valueErr != nil {
			return version{}, valueErr
		}
		p.plain.Store(path, true)
		return version{}, nil
	}
	found := version{numberOf(a.Name), a.CreateTime}
	switch {
	case err != nil:
		return version{}, err
	case found.number == "" || found.created == "":
		return version{}, fmt.Errorf("%w: it is no version of a secret", provider.ErrMalformed)
	case a.State != "ENABLED":
		return version{}, fmt.Errorf("%w: version %s is disabled or destroyed", provider.ErrNotFound, found.number)
	}
	return found, nil
}

// access returns a version with its value.
func (p *Provider) access(ctx context.Context, token, path, number string) ([]byte, version, error) {
	var a struct {
		Name    string `json:"name"`
		Payload *struct {
			Data       []byte `json:"data"`
			DataCrc32c string `json:"dataCrc32c"`
		} `json:"payload"`
	}
	if err := p.ask(ctx, token, path+"/versions/"+number+":access", &a); err != nil {
		return nil, version{}, err
	}
	found := version{number: numberOf(a.Name)}
	if found.number == "" || a.Payload == nil || number != "latest" && number != found.number {
		return nil, version{}, fmt.Errorf("%w: it is not the version that was asked for", provider.ErrMalformed)
	}
	sum := crc32.Checksum(a.Payload.Data, crc32.MakeTable(crc32.Castagnoli))
	if a.Payload.DataCrc32c != "" && a.Payload.DataCrc32c != strconv.FormatUint(uint64(sum), 10) {
		return nil, version{}, fmt.Errorf("%w: its checksum is another", provider.ErrMalformed)
	}
	if len(a.Payload.Data) > provider.MaxValue {
		return nil, version{}, fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	return a.Payload.Data, found, nil
}

// numberOf returns the last part of projects/P/secrets/S/versions/N; empty when it is
// not a number.
func numberOf(name string) string {
	_, number, _ := strings.Cut(name, "/versions/")
	if !isNumber.MatchString(number) {
		return ""
	}
	return number
}

func (p *Provider) ask(ctx context.Context, token, path string, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return fmt.Errorf("the endpoint is not an address (%w)", provider.ErrPermanent)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, body, err := rest.Do(p.client, r, http.StatusOK, http.StatusBadRequest)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest {
		var a struct {
			Error struct {
				Status string `json:"status"`
			} `json:"error"`
		}
		if json.Unmarshal(body, &a) == nil && a.Error.Status == "FAILED_PRECONDITION" {
			return fmt.Errorf("%w: the version is disabled or destroyed", provider.ErrNotFound)
		}
		return rest.Refusal(resp)
	}
	if json.Unmarshal(body, out) != nil { // its error quotes the body
		return fmt.Errorf("%w: it is not JSON", provider.ErrMalformed)
	}
	return nil
}
