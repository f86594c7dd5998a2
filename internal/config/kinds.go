package config

import (
	"maps"
	"slices"
	"time"
)

// kind is what one type of provider has below config and auth.
type kind struct {
	doc     string
	config  func() any            // a new struct; nil: the type has no config
	methods map[string]func() any // a nil function: the method has no params
	method  string                // when none is named
	region  bool                  // the type has regions
}

// kinds are the provider types of this version.
var kinds = map[string]kind{
	"aws": {
		doc:    "AWS Secrets Manager, or the SSM Parameter Store.",
		config: func() any { return new(AWS) },
		region: true,
		method: "default",
		methods: map[string]func() any{
			"default": func() any { return new(AWSDefault) },
			"static":  func() any { return new(AWSStatic) },
		},
	},
	"local": {doc: "The local encrypted vault. It is there without being configured."},
	"file": {
		doc:    "A directory with one file per secret.",
		config: func() any { return new(File) },
	},
	"env": {
		doc:    "The agent's own environment.",
		config: func() any { return new(Env) },
	},
	"azure": {
		doc:    "Secrets of an Azure Key Vault.",
		config: func() any { return new(Azure) },
		method: "default",
		methods: map[string]func() any{
			"default":           func() any { return new(AzureIdentity) },
			"managed_identity":  func() any { return new(AzureIdentity) },
			"client_secret":     func() any { return new(AzureClientSecret) },
			"workload_identity": func() any { return new(AzureWorkload) },
		},
	},
	"exec": {
		doc:    "A program that speaks the protocol of docs/reference/provider-protocol.md.",
		config: func() any { return new(Exec) },
	},
	"gcp": {
		doc:    "Google Cloud's Secret Manager.",
		config: func() any { return new(GCP) },
		region: true,
		method: "default",
		methods: map[string]func() any{
			"default":     nil,
			"credentials": func() any { return new(GCPCredentials) },
		},
	},
	"http": {
		doc:    "An HTTP endpoint that answers with JSON, or with the value itself.",
		config: func() any { return new(HTTP) },
		method: "none",
		methods: map[string]func() any{
			"none":   nil,
			"bearer": func() any { return new(Bearer) },
			"basic":  func() any { return new(Basic) },
			"header": func() any { return new(Header) },
		},
	},
	"vault": {
		doc:    "HashiCorp Vault or OpenBao: the KV engines, versions 1 and 2, and the database engine.",
		config: func() any { return new(Vault) },
		method: "token",
		methods: map[string]func() any{
			"token":      func() any { return new(Token) },
			"approle":    func() any { return new(AppRole) },
			"jwt":        func() any { return new(JWT) },
			"kubernetes": func() any { return new(Kubernetes) },
			"cert":       func() any { return new(Cert) },
		},
	},
}

// Types returns the provider types in order.
func Types() []string { return slices.Sorted(maps.Keys(kinds)) }

// AWS configures a provider of type aws.
type AWS struct {
	Service     string        `yaml:"service" enum:"secretsmanager,ssm" default:"secretsmanager" doc:"Secrets Manager, or the SSM Parameter Store."`
	Prefix      string        `yaml:"prefix" doc:"Stands before every path. Without one a path of ssm that has a slash in it gets one in front."`
	Endpoint    string        `yaml:"endpoint" doc:"https://host, when it is not that of the region, such as that of a VPC."`
	RoleARN     string        `yaml:"role_arn" doc:"Role that is assumed with the credentials."`
	ExternalID  string        `yaml:"external_id" doc:"What the role's trust policy wants to hear."`
	STSEndpoint string        `yaml:"sts_endpoint" doc:"Where the role is assumed, when it is not that of the region."`
	Timeout     time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one call of the provider, getting a credential included."`
	TLS         TLS           `yaml:"tls"`
}

// AWSDefault is the auth method default of aws: the SDK's chain.
type AWSDefault struct {
	Profile string `yaml:"profile" doc:"Of the shared configuration (~/.aws); empty: AWS_PROFILE, or default."`
}

// AWSStatic is the auth method static of aws.
type AWSStatic struct {
	AccessKeyID     string     `yaml:"access_key_id" required:"true"`
	SecretAccessKey Credential `yaml:"secret_access_key" required:"true"`
	SessionToken    Credential `yaml:"session_token" doc:"Of temporary credentials."`
}

// Azure configures a provider of type azure.
type Azure struct {
	Vault     string        `yaml:"vault" required:"true" doc:"Address of the vault, such as https://shop.vault.azure.net."`
	Cloud     string        `yaml:"cloud" enum:"public,china,government" default:"public"`
	Authority string        `yaml:"authority" doc:"What gives tokens in a cloud of one's own. What a vault there wants a token for is not checked."`
	Timeout   time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one call of the provider, getting a credential included."`
	TLS       TLS           `yaml:"tls"`
}

// AzureIdentity is the auth methods default and managed_identity of azure.
type AzureIdentity struct {
	ClientID string `yaml:"client_id" doc:"Chooses among several managed identities of the machine."`
}

// AzureClientSecret is the auth method client_secret of azure.
type AzureClientSecret struct {
	TenantID     string     `yaml:"tenant_id" required:"true"`
	ClientID     string     `yaml:"client_id" required:"true"`
	ClientSecret Credential `yaml:"client_secret" required:"true"`
}

// AzureWorkload is the auth method workload_identity of azure.
type AzureWorkload struct {
	TenantID  string `yaml:"tenant_id" required:"true"`
	ClientID  string `yaml:"client_id" required:"true"`
	TokenFile string `yaml:"token_file" required:"true" abs:"true" doc:"Token that the application trusts; it is read again for each login."`
}

// GCP configures a provider of type gcp.
type GCP struct {
	Project  string        `yaml:"project" required:"true" doc:"Id or number of the project."`
	Endpoint string        `yaml:"endpoint" doc:"https://host, when it is not Google's."`
	Timeout  time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one call of the provider, getting a credential included."`
	TLS      TLS           `yaml:"tls"`
}

// GCPCredentials is the auth method credentials of gcp.
type GCPCredentials struct {
	Credentials Credential `yaml:"credentials" required:"true" doc:"JSON that Google writes: of a service account, of a federated or an impersonated identity."`
}

// File configures a provider of type file.
type File struct {
	Dir string `yaml:"dir" required:"true" abs:"true" doc:"dso://NAME/a/b is the file a/b below it."`
}

// Env configures a provider of type env.
type Env struct {
	Prefix string `yaml:"prefix" required:"true" doc:"dso://NAME/db/password is the variable PREFIX + DB_PASSWORD. Nothing without the prefix can be read."`
}

// Exec configures a provider of type exec.
type Exec struct {
	Program string                `yaml:"program" required:"true" abs:"true" doc:"The program; only its owner may be able to change it."`
	Args    []string              `yaml:"args" doc:"Its arguments. Every user of the host can see them."`
	SHA256  string                `yaml:"sha256" doc:"What the program's SHA-256 must be, in hex; empty: not checked."`
	Env     map[string]Credential `yaml:"env" doc:"All variables that it sees."`
	Timeout time.Duration         `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one answer; a program that takes longer is killed and started again."`
}

// HTTP configures a provider of type http.
type HTTP struct {
	URL      string                `yaml:"url" required:"true" query:"hidden" doc:"Of one secret, with {path} in it."`
	Value    string                `yaml:"value" doc:"JSON pointer to the value in the answer, such as /data/value; empty: the whole answer."`
	Version  string                `yaml:"version" doc:"JSON pointer to the version in the answer; empty: the ETag, or else a keyed fingerprint of the value."`
	Encoding string                `yaml:"encoding" enum:"text,base64" default:"text" doc:"Of the value."`
	Headers  map[string]Credential `yaml:"headers" doc:"Sent with every request."`
	Timeout  time.Duration         `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one request."`
	TLS      TLS                   `yaml:"tls"`
}

// TLS says whom to trust and who we are.
type TLS struct {
	CAFile     string `yaml:"ca_file" abs:"true" doc:"PEM certificates to trust instead of the system's."`
	ServerName string `yaml:"server_name" doc:"Name that the server's certificate must have, when it is not the address."`
	CertFile   string `yaml:"cert_file" abs:"true" doc:"Client certificate, PEM."`
	KeyFile    string `yaml:"key_file" abs:"true" doc:"Its key, PEM; no others may read it."`
}

// Bearer is the auth method bearer.
type Bearer struct {
	Token Credential `yaml:"token" required:"true"`
}

// Basic is the auth method basic.
type Basic struct {
	Username string     `yaml:"username" required:"true"`
	Password Credential `yaml:"password" required:"true"`
}

// Header is the auth method header.
type Header struct {
	Name  string     `yaml:"name" required:"true" doc:"Such as X-Api-Key."`
	Value Credential `yaml:"value" required:"true"`
}

// Vault configures a provider of type vault.
type Vault struct {
	Address   string        `yaml:"address" required:"true" doc:"https://host:port"`
	Namespace string        `yaml:"namespace" doc:"Namespace of all requests."`
	Mount     string        `yaml:"mount" doc:"Mount of the KV engine; references then leave it out. Empty: a path begins with its mount."`
	KVVersion string        `yaml:"kv_version" enum:"auto,1,2" default:"auto" loose:"true" doc:"auto: the server is asked. 1 or 2 needs mount, and no right to ask."`
	Timeout   time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"Of one request."`
	TLS       TLS           `yaml:"tls"`
}

// Token is the auth method token.
type Token struct {
	Token   Credential `yaml:"token" required:"true"`
	Wrapped bool       `yaml:"wrapped" default:"false" doc:"The token is a response-wrapping token around the real one; it can be used once."`
}

// AppRole is the auth method approle.
type AppRole struct {
	RoleID          string     `yaml:"role_id" required:"true"`
	SecretID        Credential `yaml:"secret_id" doc:"Empty when the role needs none."`
	SecretIDWrapped bool       `yaml:"secret_id_wrapped" default:"false" doc:"secret_id is a response-wrapping token around the real one; it can be used once."`
	Mount           string     `yaml:"mount" default:"approle"`
}

// JWT is the auth method jwt.
type JWT struct {
	Role  string     `yaml:"role" required:"true"`
	JWT   Credential `yaml:"jwt" required:"true" doc:"A file is read again at each login."`
	Mount string     `yaml:"mount" default:"jwt"`
}

// Kubernetes is the auth method kubernetes.
type Kubernetes struct {
	Role  string     `yaml:"role" required:"true"`
	JWT   Credential `yaml:"jwt" required:"true" doc:"The service account's token; a file is read again at each login."`
	Mount string     `yaml:"mount" default:"kubernetes"`
}

// Cert is the auth method cert: the client certificate of config.tls.
type Cert struct {
	Name  string `yaml:"name" doc:"Of the certificate role; empty: the server tries all."`
	Mount string `yaml:"mount" default:"cert"`
}
