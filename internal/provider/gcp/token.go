package gcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
)

const scope = "https://www.googleapis.com/auth/cloud-platform"

// tokens holds the token.
type tokens struct {
	cfg       Config
	transport http.RoundTripper

	// turn is taken by whoever uses the fields below.
	turn chan struct{}
	held *oauth2.Token
}

func newTokens(cfg Config, transport http.RoundTripper) *tokens {
	return &tokens{cfg: cfg, transport: rest.Replayable(transport), turn: make(chan struct{}, 1)}
}

// early is how long before its end a token is not used any more.
const early = time.Minute

// token returns a token that holds, as far as one can tell without asking.
func (t *tokens) token(ctx context.Context) (string, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the token: %w", ctx.Err())
	}
	if t.held != nil && (t.held.Expiry.IsZero() || time.Until(t.held.Expiry) > early) {
		defer func() { <-t.turn }()
		return t.held.AccessToken, nil
	}
	// Google's package takes no context for a single token, so it is left alone when
	// the caller has no more time; the client's timeout ends it.
	type result struct {
		token string
		err   error
	}
	got := make(chan result, 1)
	go func() {
		defer func() { <-t.turn }()
		token, err := t.fetch()
		got <- result{token, err}
	}()
	select {
	case r := <-got:
		return r.token, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("get a credential: %w", ctx.Err())
	}
}

// fetch gets a token. The turn is taken.
func (t *tokens) fetch() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), t.cfg.Timeout)
	defer cancel()
	ctx, outcome := rest.WithOutcome(ctx)
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport: outcome.Through(t.transport, true), CheckRedirect: rest.NoRedirect, Timeout: t.cfg.Timeout,
	})
	source, err := t.open(ctx)
	if err != nil {
		return "", err
	}
	token, err := source.Token()
	if err == nil && token.AccessToken == "" {
		err = errNoToken
	}
	if err != nil {
		return "", outcome.Explain(ctx, err)
	}
	t.held = token
	return token.AccessToken, nil
}

var errNoToken = fmt.Errorf("%w: it holds no token", provider.ErrMalformed)

// kinds are the files that Google writes for programs.
var kinds = []google.CredentialsType{google.ServiceAccount, google.AuthorizedUser, google.ExternalAccount, google.ImpersonatedServiceAccount}

// open reads the credentials. A source keeps the context that it was made with, so
// one is made for each token.
func (t *tokens) open(ctx context.Context) (oauth2.TokenSource, error) {
	if t.cfg.Credentials == nil {
		c, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil { // it may quote a file
			return nil, fmt.Errorf("%w: the environment, gcloud's file and the instance give none", provider.ErrCredential)
		}
		return c.TokenSource, nil
	}
	text, err := t.cfg.Credentials()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrCredential, err)
	}
	var file struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal(text.Reveal(), &file) != nil || !slices.Contains(kinds, file.Type) {
		return nil, fmt.Errorf("%w: it is not a file of credentials that Google writes for programs", provider.ErrCredential)
	}
	c, err := google.CredentialsFromJSONWithType(ctx, text.Reveal(), file.Type, scope)
	if err != nil {
		return nil, fmt.Errorf("%w: the file of credentials cannot be used", provider.ErrCredential)
	}
	return c.TokenSource, nil
}

// rejected drops a token that the store did not accept.
func (t *tokens) rejected(ctx context.Context, token string) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the token: %w", ctx.Err())
	}
	defer func() { <-t.turn }()
	if t.held != nil && t.held.AccessToken == token {
		t.held = nil
	}
	return nil
}
