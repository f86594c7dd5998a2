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
	p, err := s.ask(ctx, s.name(path), false)
	if err != nil {
		return "", err
	}
	return versionOf(p), nil
}

// read asks for the current version first, because it is nearly always the one that
// is wanted.
func (s *parameters) read(ctx context.Context, path string, want secret.Version) ([]byte, secret.Version, error) {
	name := s.name(path)
	p, err := s.ask(ctx, name, true)
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
	case out.Parameter == nil || out.Parameter.Value == nil || out.Parameter.Version < 1 || out.Parameter.LastModifiedDate == nil:
		return nil, fmt.Errorf("%w: it holds no parameter", provider.ErrMalformed)
	}
	return out.Parameter, nil
}

func versionOf(p *types.Parameter) secret.Version {
	sum := sha256.Sum256([]byte(p.LastModifiedDate.UTC().Format(time.RFC3339Nano)))
	return secret.Version(fmt.Sprintf("%d-%x", p.Version, sum[:3]))
}
