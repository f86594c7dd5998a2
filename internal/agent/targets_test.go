package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/target"
)

func TestTargetsOf_SaysWhatTheKeysSay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dso.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(`version: 1
secrets:
  - name: shop/tls
    inject: {type: file, uid: 1, gid: 2, path: /run/secrets/dso/tls.key}
    targets: {containers: [web]}
    rotation: {strategy: signal, signal: USR1, enabled: false}
  - name: shop/db
    inject: {type: file}
    targets: {containers: [web]}
    mappings: {U: "local/shop/db#user", P: "local/shop/db#pass"}
    rotation: {strategy: exec, exec: reload, window: {cron: "0 2 * * *", duration: 1h}, health_check_timeout: 1m}
`), 0o600))
	c, err := config.Load(path)
	assert.NilError(t, err)
	night := &target.Hold{Cron: "0 2 * * *", Length: time.Hour}
	assert.DeepEqual(t, targetsOf(c), target.Rules{Rules: []target.Rule{{
		Name: "shop/tls", Containers: []string{"web"},
		References: []target.Reference{{Variable: "SHOP_TLS", Ref: "dsofile://local/shop/tls?uid=1&gid=2&path=/run/secrets/dso/tls.key", Hold: &target.Hold{Off: true}}},
		Settings:   map[string]string{"dso.update.strategy": "signal", "dso.update.signal": "USR1", "dso.health.timeout": "2m0s"},
	}, {
		Name: "shop/db", Containers: []string{"web"},
		References: []target.Reference{{Variable: "P", Ref: "dsofile://local/shop/db#pass", Hold: night}, {Variable: "U", Ref: "dsofile://local/shop/db#user", Hold: night}},
		Settings:   map[string]string{"dso.update.strategy": "exec", "dso.update.exec": "reload", "dso.health.timeout": "1m0s"},
	}}})
}
