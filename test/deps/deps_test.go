package deps

import (
	"os/exec"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// linked returns the packages that a program of this module is made of.
func linked(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../../cmd/"+program).Output()
	assert.NilError(t, err)
	packages := strings.Fields(string(out))
	assert.Assert(t, len(packages) > 50, "%q", packages)
	return packages
}

const module = "github.com/docker-secret-operator/dso"

// sdks are what providers are made of.
var sdks = []string{
	"github.com/openbao", "github.com/hashicorp/vault", "github.com/aws", "github.com/Azure/azure-sdk-for-go",
	"github.com/AzureAD", "cloud.google.com", "google.golang.org/api", "golang.org/x/oauth2",
	"github.com/huaweicloud", "github.com/getsops", module + "/internal/provider",
}

func linksNone(t *testing.T, program string, prefixes ...string) {
	t.Helper()
	for _, pkg := range linked(t, program) {
		for _, prefix := range prefixes {
			if pkg == prefix || strings.HasPrefix(pkg, prefix+"/") {
				t.Errorf("%s links %s", program, pkg)
			}
		}
	}
}

func TestPlugin_LinksNoProvider(t *testing.T) {
	linksNone(t, "docker-dso", append(sdks, "github.com/prometheus", module+"/internal/agent", module+"/internal/engine", module+"/internal/rotation")...)
}

func TestRuntime_LinksNothingHeavy(t *testing.T) {
	linksNone(t, "dso-runtime", append(sdks, "github.com/prometheus", "net/http", "github.com/moby", "github.com/docker/docker", "github.com/docker/cli", module+"/internal/engine")...)
}

func TestFront_LinksNothingHeavy(t *testing.T) {
	linksNone(t, "dso-front", append(sdks, "github.com/prometheus", "net/http", "github.com/moby", module+"/internal/engine", module+"/internal/secret")...)
}

// A check of the check: the agent does link what the others must not.
func TestAgent_LinksProvidersTheEngineAndPrometheus(t *testing.T) {
	packages := strings.Join(linked(t, "dso-agent"), "\n")
	for _, want := range []string{module + "/internal/provider", "net/http", "github.com/moby/moby/client", "github.com/prometheus/client_golang/prometheus", "github.com/openbao/openbao/api/v2", "github.com/aws/aws-sdk-go-v2/config", "golang.org/x/oauth2/google",
		"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"} {
		assert.Assert(t, strings.Contains(packages, want+"\n"), want)
	}
}

// Traces are for those who build them in.
func TestAgent_LinksNothingThatSendsTraces(t *testing.T) {
	linksNone(t, "dso-agent", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters", "go.opentelemetry.io/proto")
}
