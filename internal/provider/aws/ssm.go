package aws

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// parameters is the Parameter Store.
type parameters struct {
	client *ssm.Client
	prefix string
	plain  batch[*types.Parameter] // without decryption
	clear  batch[*types.Parameter]
}

// mostParameters is what GetParameters takes,
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html.
const mostParameters = 10

func newParameters(client *ssm.Client, prefix string) *parameters {
	s := &parameters{client: client, prefix: prefix}
	with := func(decrypt bool) batch[*types.Parameter] {
		return batch[*types.Parameter]{
			most:  mostParameters,
			alone: func(ctx context.Context, name string) (*types.Parameter, error) { return s.ask(ctx, name, decrypt) },
			together: func(ctx context.Context, names []string) (map[string]*types.Parameter, error) {
				return s.askAll(ctx, names, decrypt)
			},
		}
	}
	s.plain, s.clear = with(false), with(true)
	return s
}

// name returns the parameter's name: one in a hierarchy begins with a slash, which a
// reference cannot.
func (s *parameters) name(path string) string {
	if s.prefix == "" && strings.Contains(path, "/") {
		return "/" + path
	}
	return s.prefix + path
}

// version asks without decryption: the answer holds the value of a plain parameter,
// and of a SecureString its ciphertext, which costs no call of KMS. DescribeParameters
// holds neither, but may be called a few times a second only.
func (s *parameters) version(ctx context.Context, path string) (secret.Version, error) {
	p, err := s.plain.ask(ctx, s.name(path))
	if err != nil {
		return "", err
	}
	return versionOf(p), nil
}

// read asks for the current version first, because it is nearly always the one that
// is wanted.
func (s *parameters) read(ctx context.Context, path string, want secret.Version) ([]byte, secret.Version, error) {
	name := s.name(path)
	p, err := s.clear.ask(ctx, name)
	if err == nil && want != "" && versionOf(p) != want {
		number, _, _ := strings.Cut(string(want), "-")
		if n, bad := strconv.ParseInt(number, 10, 64); bad != nil || n < 1 {
			return nil, "", provider.ErrNoVersion
		}
		p, err = s.ask(ctx, name+":"+number, true)
		if errors.Is(err, provider.ErrNotFound) || err == nil && versionOf(p) != want {
			return nil, "", provider.ErrNoVersion // or of an earlier life
		}
	}
	if err != nil {
		return nil, "", err
	}
	return []byte(*p.Value), versionOf(p), nil
}

func (s *parameters) ask(ctx context.Context, name string, decrypt bool) (*types.Parameter, error) {
	out, err := s.client.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: &decrypt})
	switch err = failed(ctx, err); {
	case err != nil:
		return nil, err
	case out.Parameter == nil || !whole(*out.Parameter):
		return nil, fmt.Errorf("%w: it holds no parameter", provider.ErrMalformed)
	}
	return out.Parameter, nil
}

// askAll returns those that there are.
func (s *parameters) askAll(ctx context.Context, names []string, decrypt bool) (map[string]*types.Parameter, error) {
	out, err := s.client.GetParameters(ctx, &ssm.GetParametersInput{Names: names, WithDecryption: &decrypt})
	if err = failed(ctx, err); err != nil {
		return nil, err
	}
	found := map[string]*types.Parameter{}
	for _, p := range out.Parameters {
		if p.Name != nil && whole(p) {
			found[*p.Name] = &p
		}
	}
	return found, nil
}

func whole(p types.Parameter) bool {
	return p.Value != nil && p.Version >= 1 && p.LastModifiedDate != nil
}

func versionOf(p *types.Parameter) secret.Version {
	sum := sha256.Sum256([]byte(p.LastModifiedDate.UTC().Format(time.RFC3339Nano)))
	return secret.Version(fmt.Sprintf("%d-%x", p.Version, sum[:3]))
}
