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
	client  *secretsmanager.Client
	prefix  string
	plain   *plain
	current batch[held]
}

// held is a value with its version.
type held struct {
	value   []byte
	version secret.Version
}

// mostSecrets is what BatchGetSecretValue takes,
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html.
const mostSecrets = 20

func newSecrets(client *secretsmanager.Client, prefix string, described *plain) *secrets {
	s := &secrets{client: client, prefix: prefix, plain: described}
	s.current = batch[held]{most: mostSecrets, alone: s.askCurrent, together: s.askAll}
	return s
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

// read asks for the current version first, because it is nearly always the one that is
// wanted, and can be asked for together with others.
func (s *secrets) read(ctx context.Context, path string, want secret.Version) ([]byte, secret.Version, error) {
	id := s.prefix + path
	h, err := s.current.ask(ctx, id)
	if want != "" && (err == nil && h.version != want || errors.Is(err, provider.ErrNotFound)) {
		h, err = s.askVersion(ctx, id, string(want))
	}
	return h.value, h.version, err
}

func (s *secrets) askCurrent(ctx context.Context, id string) (held, error) {
	stage := stageCurrent
	out, err := s.get(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &stage})
	if err != nil {
		return held{}, err
	}
	return currentOf(out.VersionId, out.VersionStages, out.SecretString, out.SecretBinary)
}

// askVersion never names a stage together with a version: the two must agree, and an older
// version has none.
func (s *secrets) askVersion(ctx context.Context, id, v string) (held, error) {
	if len(v) < 32 || len(v) > 64 { // AWS refuses the whole request
		return held{}, provider.ErrNoVersion
	}
	out, err := s.get(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionId: &v})
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return held{}, provider.ErrNoVersion
	case err != nil:
		return held{}, err
	case out.VersionId == nil || *out.VersionId != v:
		return held{}, fmt.Errorf("%w: it is not of the version that was asked for", provider.ErrMalformed)
	case slices.Contains(out.VersionStages, stagePending) && !slices.Contains(out.VersionStages, stageCurrent):
		return held{}, fmt.Errorf("%w: it is %s still", provider.ErrNoVersion, stagePending)
	}
	return heldOf(out.VersionId, out.SecretString, out.SecretBinary)
}

func (s *secrets) get(ctx context.Context, in *secretsmanager.GetSecretValueInput) (*secretsmanager.GetSecretValueOutput, error) {
	out, err := s.client.GetSecretValue(ctx, in)
	var invalid *types.InvalidRequestException
	if errors.As(err, &invalid) {
		return nil, fmt.Errorf("%w: it is marked for deletion", provider.ErrNotFound)
	}
	return out, failed(ctx, err)
}

// askAll returns the current values of those that have one, by name and by ARN.
func (s *secrets) askAll(ctx context.Context, ids []string) (map[string]held, error) {
	out, err := s.client.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids})
	if err = failed(ctx, err); err != nil {
		return nil, err
	}
	found := map[string]held{}
	for _, e := range out.SecretValues {
		h, err := currentOf(e.VersionId, e.VersionStages, e.SecretString, e.SecretBinary)
		if err != nil {
			continue // asked alone, it says why
		}
		for _, name := range []*string{e.Name, e.ARN} {
			if name != nil {
				found[*name] = h
			}
		}
	}
	return found, nil
}

func currentOf(version *string, stages []string, text *string, binary []byte) (held, error) {
	if !slices.Contains(stages, stageCurrent) {
		return held{}, fmt.Errorf("%w: it is not %s", provider.ErrMalformed, stageCurrent)
	}
	return heldOf(version, text, binary)
}

func heldOf(version, text *string, binary []byte) (held, error) {
	switch {
	case version == nil || *version == "":
		return held{}, fmt.Errorf("%w: it has no version", provider.ErrMalformed)
	case text != nil:
		return held{[]byte(*text), secret.Version(*version)}, nil
	case binary != nil:
		return held{binary, secret.Version(*version)}, nil
	}
	return held{}, fmt.Errorf("%w: it holds no value", provider.ErrMalformed)
}
