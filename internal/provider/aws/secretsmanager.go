package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

const (
	stageCurrent = "AWSCURRENT"
	stagePending = "AWSPENDING"
)

// secrets is Secrets Manager.
type secrets struct {
	client *secretsmanager.Client
	prefix string
	plain  *plain
}

// version reads the description, which holds no value; where only the value may be
// read, that.
func (s *secrets) version(ctx context.Context, path string) (secret.Version, error) {
	if s.plain.has(path) {
		_, v, err := s.read(ctx, path, "")
		return v, err
	}
	id := s.prefix + path
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &id})
	if err = failed(ctx, err); errors.Is(err, provider.ErrDenied) {
		_, v, valueErr := s.read(ctx, path, "")
		if valueErr == nil {
			s.plain.add(path)
		}
		return v, valueErr
	}
	switch {
	case err != nil:
		return "", err
	case out.ARN == nil:
		return "", fmt.Errorf("%w: it describes no secret", provider.ErrMalformed)
	case out.DeletedDate != nil:
		return "", fmt.Errorf("%w: it is marked for deletion", provider.ErrNotFound)
	}
	for v, stages := range out.VersionIdsToStages {
		if slices.Contains(stages, stageCurrent) && v != "" {
			return secret.Version(v), nil
		}
	}
	return "", fmt.Errorf("%w: no version of it is %s", provider.ErrNotFound, stageCurrent)
}

// read never names a stage together with a version: the two must agree, and an older
// version has none.
func (s *secrets) read(ctx context.Context, path string, want secret.Version) ([]byte, secret.Version, error) {
	id, v, stage := s.prefix+path, string(want), stageCurrent
	in := &secretsmanager.GetSecretValueInput{SecretId: &id}
	switch {
	case want == "":
		in.VersionStage = &stage
	case len(v) < 32 || len(v) > 64: // AWS refuses the whole request
		return nil, "", provider.ErrNoVersion
	default:
		in.VersionId = &v
	}
	out, err := s.client.GetSecretValue(ctx, in)
	var invalid *types.InvalidRequestException
	if errors.As(err, &invalid) {
		return nil, "", fmt.Errorf("%w: it is marked for deletion", provider.ErrNotFound)
	}
	err = failed(ctx, err)
	switch {
	case errors.Is(err, provider.ErrNotFound) && want != "":
		return nil, "", provider.ErrNoVersion
	case err != nil:
		return nil, "", err
	case out.VersionId == nil || *out.VersionId == "" || want != "" && *out.VersionId != v:
		return nil, "", fmt.Errorf("%w: it is not of the version that was asked for", provider.ErrMalformed)
	case want == "" && !slices.Contains(out.VersionStages, stageCurrent):
		return nil, "", fmt.Errorf("%w: it is not %s", provider.ErrMalformed, stageCurrent)
	case slices.Contains(out.VersionStages, stagePending) && !slices.Contains(out.VersionStages, stageCurrent):
		return nil, "", fmt.Errorf("%w: it is %s still", provider.ErrNoVersion, stagePending)
	case out.SecretString != nil:
		return []byte(*out.SecretString), secret.Version(*out.VersionId), nil
	case out.SecretBinary != nil:
		return out.SecretBinary, secret.Version(*out.VersionId), nil
	}
	return nil, "", fmt.Errorf("%w: it holds no value", provider.ErrMalformed)
}
