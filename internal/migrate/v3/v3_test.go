package v3_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/migrate/v3"
	"github.com/docker-secret-operator/dso/internal/migrate/v3/v3test"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// old makes a vault file as version 3.5 does.
func old(t *testing.T, master, text string) []byte {
	t.Helper()
	file, err := v3test.Vault(master, text)
	assert.NilError(t, err)
	return file
}

func value(s string) secret.Value { return secret.NewValue([]byte(s)) }

func TestVault_IsRead(t *testing.T) {
	file := old(t, "0123abcd", `{"version":"1.0","metadata":{"checksum":"sha256:x"},"projects":{
		"shop":{"db/password":{"value":"p$1\n","_meta":{"updated_at":"2025-01-01T00:00:00Z"}},"api":{"value":"k"}},
		"global":{"token":{"value":""}}}}`)
	all, err := v3.Vault(file, value(" 0123abcd\n"))
	assert.NilError(t, err)
	got := map[string]string{}
	for _, s := range all {
		got[s.Name] = string(s.Value.Reveal())
	}
	assert.DeepEqual(t, got, map[string]string{"shop/db/password": "p$1\n", "shop/api": "k", "global/token": ""})
}

func TestVault_WhatCannotBeReadIsSaidWithoutItsContent(t *testing.T) {
	good := old(t, "key", `{"projects":{"a b":{"c":{"value":"hunter2"}}}}`)
	_, err := v3.Vault(good, value("key"))
	assert.ErrorContains(t, err, `"a b/c"`)
	assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
	_, err = v3.Vault(good, value("another"))
	assert.ErrorIs(t, err, v3.ErrKey)
	_, err = v3.Vault(good[:20], value("key"))
	assert.ErrorIs(t, err, v3.ErrFormat)
	_, err = v3.Vault(old(t, "key", `hunter2`), value("key"))
	assert.ErrorIs(t, err, v3.ErrFormat)
}

// Each shape of an old file, what becomes of it, and that this version takes it.
func TestConfig_BecomesOneOfThisVersion(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	assert.NilError(t, err)
	assert.Assert(t, len(files) >= 5)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			assert.NilError(t, err)
			translated, changes, err := v3.Config(text)
			assert.NilError(t, err)
			golden.Assert(t, string(translated)+"\n# Changes:\n# "+strings.Join(changes, "\n# ")+"\n", name+".golden")
			_, err = config.Parse("dso.yaml", secret.NewValue(translated))
			assert.NilError(t, err)
		})
	}
}

func TestConfig_WhatIsNoneIsRefusedWithoutBeingQuoted(t *testing.T) {
	for _, text := range []string{"hunter2: [", "hunter2", ""} {
		_, _, err := v3.Config([]byte(text))
		assert.Assert(t, err != nil && !strings.Contains(err.Error(), "hunter2"), "%v", err)
	}
}
