package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	sdkconfig "github.com/huaweicloud/huaweicloud-sdk-go-v3/core/config"
	csms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/csms/v1"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/csms/v1/model"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// timeout of one request; DSO has one of its own around it.
const timeout = 30 * time.Second

type config struct {
	endpoint, project  string
	key, secret, token string
}

// store is the secrets of one project. Its current version is the one that is
// SYSCURRENT; one that is SYSPENDING is never taken.
//
// A version is its id and a hash of when it was made: ids begin at v1 again when a
// secret is deleted and made anew.
type store struct {
	config    config
	transport http.RoundTripper
}

func newStore(c config, t rest.TLS) (*store, error) {
	transport, err := rest.Transport(t)
	return &store{c, transport}, err
}

// within gives the SDK's requests the context that it has no place for.
type within struct {
	ctx  context.Context
	next http.RoundTripper
}

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.next.RoundTrip(r.WithContext(w.ctx))
}

// client returns a client for one call. The connections are shared.
func (s *store) client(ctx context.Context) (*csms.CsmsClient, error) {
	c, err := basic.NewCredentialsBuilder().WithAk(s.config.key).WithSk(s.config.secret).WithSecurityToken(s.config.token).WithProjectId(s.config.project).SafeBuild()
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be used", provider.ErrCredential)
	}
	h, err := core.NewHcHttpClientBuilder().WithEndpoints([]string{s.config.endpoint}).WithCredential(c).
		WithHttpConfig(sdkconfig.DefaultHttpConfig().WithTimeout(timeout).WithHttpRoundTripper(within{ctx, rest.Telling(s.transport, false)})).SafeBuild()
	if err != nil {
		return nil, fmt.Errorf("the endpoint cannot be used (%w)", provider.ErrPermanent)
	}
	return csms.NewCsmsClient(h), nil
}

// Version implements provider.Provider.
func (s *store) Version(ctx context.Context, name string) (secret.Version, error) {
	_, v, err := s.current(ctx, name)
	return v, err
}

func versionOf(m *model.VersionMetadata) secret.Version {
	sum := sha256.Sum256(fmt.Append(nil, *m.CreateTime))
	return secret.Version(fmt.Sprintf("%s-%x", *m.Id, sum[:3]))
}

// current returns the id of the current version, and its name outside. A secret has at
// most 20 versions, which is less than a page.
func (s *store) current(ctx context.Context, name string) (string, secret.Version, error) {
	ctx, outcome := rest.WithOutcome(ctx)
	c, err := s.client(ctx)
	if err != nil {
		return "", "", err
	}
	a, err := c.ListSecretVersions(&model.ListSecretVersionsRequest{SecretName: name})
	switch {
	case err != nil:
		return "", "", outcome.Explain(ctx, err)
	case a.VersionMetadatas == nil: // as the SDK makes of an answer, too, whose end does not come
		return "", "", outcome.Explain(ctx, provider.ErrMalformed)
	}
	for _, m := range *a.VersionMetadatas {
		if m.Id != nil && m.CreateTime != nil && m.VersionStages != nil && slices.Contains(*m.VersionStages, "SYSCURRENT") {
			return *m.Id, versionOf(&m), nil
		}
	}
	return "", "", fmt.Errorf("%w: no version of it is SYSCURRENT", provider.ErrNotFound)
}

// Get implements provider.Provider. A version is asked for by its id: "latest" may be
// one that is pending.
func (s *store) Get(ctx context.Context, name string, want secret.Version) (secret.Value, secret.Version, error) {
	id, _, asked := cutLast(string(want))
	if want != "" && !asked {
		return secret.Value{}, "", provider.ErrNoVersion
	}
	if want == "" {
		var err error
		if id, want, err = s.current(ctx, name); err != nil {
			return secret.Value{}, "", err
		}
	}
	ctx, outcome := rest.WithOutcome(ctx)
	c, err := s.client(ctx)
	if err != nil {
		return secret.Value{}, "", err
	}
	a, err := c.ShowSecretVersion(&model.ShowSecretVersionRequest{SecretName: name, VersionId: id})
	err = outcome.Explain(ctx, err)
	switch {
	case errors.Is(err, provider.ErrNotFound) && asked:
		return secret.Value{}, "", provider.ErrNoVersion
	case err != nil:
		return secret.Value{}, "", err
	case a.Version == nil || a.Version.VersionMetadata == nil || a.Version.VersionMetadata.Id == nil || a.Version.VersionMetadata.CreateTime == nil:
		return secret.Value{}, "", outcome.Explain(ctx, provider.ErrMalformed)
	case versionOf(a.Version.VersionMetadata) != want:
		return secret.Value{}, "", provider.ErrNoVersion // of that id, but of an earlier life
	}
	value, err := valueOf(a.Version)
	return secret.NewValue(value), want, err
}

// cutLast cuts a version's name into its id and the rest.
func cutLast(v string) (id, rest string, ok bool) {
	for i := len(v) - 1; i > 0; i-- {
		if v[i] == '-' {
			return v[:i], v[i+1:], true
		}
	}
	return "", "", false
}

func valueOf(v *model.Version) ([]byte, error) {
	switch {
	case v.SecretString != nil:
		return []byte(*v.SecretString), nil
	case v.SecretBinary != nil:
		b, err := base64.StdEncoding.DecodeString(*v.SecretBinary)
		if err != nil { // it quotes nothing, but says where
			return nil, fmt.Errorf("%w: its binary value is not base64", provider.ErrMalformed)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%w: it holds no value", provider.ErrMalformed)
}
