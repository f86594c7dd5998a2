package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/compose"
)

func loadText(t *testing.T, text string) (*compose.Project, error) {
	t.Helper()
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o600))
	t.Chdir(dir)
	return compose.Load(t.Context(), compose.Options{ProjectName: "shop"})
}

const claiming = `
services:
  web:
    image: app
    environment: {TOKEN: dso://token}
    labels: {dso.host_ports: "8080:80, 127.0.0.1:53:53/udp"}
`

func TestHostPorts_AreTheFronts(t *testing.T) {
	p, err := loadText(t, claiming)
	assert.NilError(t, err)
	text, err := compose.Overlay(p, overlayOptions)
	assert.NilError(t, err)
	_, front, _ := strings.Cut(string(text), "web-front:\n    image")
	assert.Assert(t, strings.Contains(front, `published: "8080"`) && strings.Contains(front, "host_ip: 127.0.0.1"), front)
	claims, err := compose.Claims(p)
	assert.NilError(t, err)
	assert.DeepEqual(t, claims, []compose.Claim{{"web", "", 8080, "tcp"}, {"web", "127.0.0.1", 53, "udp"}})
}

func TestHostPorts_WithoutAFrontAreTheContainers(t *testing.T) {
	p, err := loadText(t, strings.Replace(claiming, "dso.host_ports", "dso.update.strategy: restart, dso.host_ports", 1))
	assert.NilError(t, err)
	text, err := compose.Overlay(p, overlayOptions)
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(string(text), "web-front"), string(text))
	assert.Assert(t, strings.Contains(string(text), `published: "8080"`), string(text))
}

func TestClaims_OfTwoServicesNameBoth(t *testing.T) {
	for port, conflict := range map[string]bool{"8080:1": true, "127.0.0.1:8080:1": true, "8081:1": false, "8080:1/udp": false} {
		p, err := loadText(t, claiming+"  shop:\n    image: app\n    ports: [\""+port+"\"]\n")
		assert.NilError(t, err)
		_, err = compose.Claims(p)
		assert.Equal(t, err != nil, conflict, port)
		if conflict {
			assert.ErrorContains(t, err, "services shop and web both claim port 8080/tcp")
		}
	}
}

func TestClaims_OfOneService(t *testing.T) {
	for ports, want := range map[string]string{
		`"0.0.0.0:9090:80", "[::]:9090:80"`:                             "", // both families, each once
		`"127.0.0.1:9090:80", "[::]:9090:80", "10.0.0.1:9090:80"`:       "",
		`"9090:80", "[::1]:9090:80"`:                                    "service web claims port 9090/tcp of the host twice",
		`"0.0.0.0:9090:80", "127.0.0.1:9090:80"`:                        "service web claims port 9090/tcp of the host twice",
		`{target: 80, published: "8080"}, {target: 81, published: "1"}`: "service web claims port 8080/tcp of the host twice", // the label's
	} {
		p, err := loadText(t, claiming+"    ports: ["+ports+"]\n")
		if err == nil {
			_, err = compose.Claims(p)
		}
		if want == "" {
			assert.NilError(t, err, ports)
		} else {
			assert.ErrorContains(t, err, want, ports)
		}
	}
}
