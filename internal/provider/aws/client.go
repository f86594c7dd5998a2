package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
)

// open reads the environment and the shared configuration. It asks no server: the
// chain of credentials does when they are needed.
func open(cfg Config, transport http.RoundTripper, described *plain) (store, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithLogger(logging.Nop{}),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(cfg.Profile))
	}
	if cfg.Keys != nil {
		options = append(options, config.WithCredentialsProvider(static(cfg.Keys)))
	}
	if cfg.TLS.CAFile != "" {
		pem, err := os.ReadFile(cfg.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		options = append(options, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	c, err := config.LoadDefaultConfig(context.Background(), options...)
	var none config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("the shared AWS configuration has no such profile (%w)", provider.ErrCredential)
	case err != nil: // it may quote the file
		return nil, fmt.Errorf("the AWS configuration in the environment and in ~/.aws cannot be read (%w)", provider.ErrCredential)
	case c.Region == "":
		return nil, fmt.Errorf("no region: set `region` or AWS_REGION (%w)", provider.ErrPermanent)
	}
	// The chain asks the instance, SSO and the like with a client of the SDK, which has
	// their time limits; the stores and the role are asked with ours.
	c.HTTPClient = &http.Client{Transport: rest.Replayable(transport), CheckRedirect: rest.NoRedirect}
	c.Credentials = own{c.Credentials}
	if cfg.RoleARN != "" {
		client := sts.NewFromConfig(c, func(o *sts.Options) { o.BaseEndpoint = endpoint(cfg.STSEndpoint, o.BaseEndpoint) })
		c.Credentials = aws.NewCredentialsCache(own{stscreds.NewAssumeRoleProvider(client, cfg.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "dso"
			if cfg.ExternalID != "" {
				o.ExternalID = &cfg.ExternalID
			}
		})})
	}
	if cfg.Service == ParameterStore {
		client := ssm.NewFromConfig(c, func(o *ssm.Options) { o.BaseEndpoint = endpoint(cfg.Endpoint, o.BaseEndpoint) })
		return newParameters(client, cfg.Prefix), nil
	}
	client := secretsmanager.NewFromConfig(c, func(o *secretsmanager.Options) { o.BaseEndpoint = endpoint(cfg.Endpoint, o.BaseEndpoint) })
	return newSecrets(client, cfg.Prefix, described), nil
}

// endpoint is the configured one, or what the SDK found in the environment.
func endpoint(configured string, found *string) *string {
	if configured != "" {
		return &configured
	}
	return found
}

// own tells errors of getting a credential from those of using it.
type own struct{ next aws.CredentialsProvider }

// credentialError says why there is no credential.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

func (c own) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.next.Retrieve(ctx)
	if err != nil {
		return got, &credentialError{uncredited(ctx, err)}
	}
	return got, nil
}

// static returns the keys of the configuration, read once for each load.
func static(keys func() (Keys, error)) aws.CredentialsProvider {
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		k, err := keys()
		if err != nil {
			return aws.Credentials{}, &credentialError{fmt.Errorf("%w: %w", provider.ErrCredential, err)}
		}
		return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.Session).Retrieve(ctx)
	}))
}
