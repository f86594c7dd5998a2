package azure

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Login makes the credential. private says that the authority is one of our own, which
// Microsoft need not be asked about.
type Login func(o azcore.ClientOptions, private bool) (azcore.TokenCredential, error)

// Default takes what there is first: the environment (AZURE_CLIENT_ID and the like), a
// workload identity, the instance's managed identity. clientID chooses among managed
// identities.
func Default(clientID string) Login {
	return func(o azcore.ClientOptions, private bool) (azcore.TokenCredential, error) {
		var chain []azcore.TokenCredential
		if c, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: private}); err == nil {
			chain = append(chain, c)
		}
		if c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: private}); err == nil {
			chain = append(chain, c)
		}
		c, err := ManagedIdentity(clientID)(o, private)
		if err != nil {
			return nil, err
		}
		return azidentity.NewChainedTokenCredential(append(chain, c), nil)
	}
}

// ManagedIdentity is the identity of the machine. clientID chooses among several.
func ManagedIdentity(clientID string) Login {
	return func(o azcore.ClientOptions, _ bool) (azcore.TokenCredential, error) {
		options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if clientID != "" {
			options.ID = azidentity.ClientID(clientID)
		}
		return azidentity.NewManagedIdentityCredential(options)
	}
}

// ClientSecret is an application with a password, which is read at each load.
func ClientSecret(tenant, client string, password func() (secret.Value, error)) Login {
	return func(o azcore.ClientOptions, private bool) (azcore.TokenCredential, error) {
		v, err := password()
		if err != nil {
			return nil, &readError{err}
		}
		return azidentity.NewClientSecretCredential(tenant, client, string(v.Reveal()),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: private})
	}
}

// WorkloadIdentity is an application that trusts the tokens in a file.
func WorkloadIdentity(tenant, client, tokenFile string) Login {
	return func(o azcore.ClientOptions, private bool) (azcore.TokenCredential, error) {
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: o, DisableInstanceDiscovery: private, TenantID: tenant, ClientID: client, TokenFilePath: tokenFile,
		})
	}
}

// readError is one of the configuration's; others may hold anything.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

var clouds = map[string]cloud.Configuration{
	"": cloud.AzurePublic, "public": cloud.AzurePublic, "china": cloud.AzureChina, "government": cloud.AzureGovernment,
}

// open makes a client with a credential of its own. It asks no server.
func open(cfg Config, client func(credential bool) *http.Client) (*azsecrets.Client, error) {
	options := func(credential bool) azcore.ClientOptions {
		o := azcore.ClientOptions{
			Cloud: clouds[cfg.Cloud], Transport: client(credential),
			Retry: policy.RetryOptions{MaxRetries: -1}, Telemetry: policy.TelemetryOptions{Disabled: true},
		}
		if cfg.Authority != "" {
			o.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: cfg.Authority}
		}
		return o
	}
	credential, err := cfg.Login(options(true), cfg.Authority != "")
	var read *readError
	if errors.As(err, &read) {
		return nil, fmt.Errorf("%w: %w", provider.ErrCredential, read.err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be used", provider.ErrCredential)
	}
	c, err := azsecrets.NewClient(cfg.Vault, credential, &azsecrets.ClientOptions{
		ClientOptions: options(false), DisableChallengeResourceVerification: cfg.Authority != "",
	})
	if err != nil {
		return nil, fmt.Errorf("the vault's address cannot be used (%w)", provider.ErrPermanent)
	}
	return c, nil
}
