package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// project is a directory with the files of a Compose project, and a vault of its own.
func project(t *testing.T, files map[string]string) (run func(args ...string) (string, error)) {
	t.Helper()
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Chdir(dir)
	for path, text := range files {
		assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	run = func(args ...string) (string, error) {
		out, errs, err := said(t, nil, append([]string{"--socket", filepath.Join(home, "none")}, args...)...)
		return out + errs, err
	}
	_, err := run("init")
	assert.NilError(t, err)
	return run
}

func TestMigrate_ThePlanSaysWhatApplyWouldStopAt(t *testing.T) {
	run := project(t, map[string]string{"compose.yaml": "name: shop\nservices: {web: {image: shop, environment: {DB_PASSWORD: hunter2-db}}}\n"})
	out, err := run("migrate")
	assert.NilError(t, err)
	assert.Check(t, !strings.Contains(out, "already"), out)
	_, err = run("migrate", "--apply", "--yes")
	assert.NilError(t, err)
	out, err = run("migrate")
	assert.NilError(t, err)
	assert.Check(t, is.Contains(out, "compose.dso.yaml\n  it is there already"))
	assert.Check(t, is.Contains(out, "left secret shop/db_password\n  the vault has it already: --existing keep"))
	assert.Check(t, !strings.Contains(out, "hunter2"), out)
	out, err = run("migrate", "--existing", "keep")
	assert.NilError(t, err)
	assert.Check(t, !strings.Contains(out, "the vault has it already"), out)
}

func TestMigrate_WhatTheShellSaysInstead(t *testing.T) {
	t.Setenv("SHOP_PASSWORD", "hunter2-shell")
	run := project(t, map[string]string{
		".env":         "SHOP_PASSWORD=hunter2-file\n",
		"compose.yaml": "name: shop\nservices: {web: {image: shop, environment: {DB_PASSWORD: '${SHOP_PASSWORD}'}}}\n",
	})
	out, err := run("migrate", "--apply", "--yes")
	assert.NilError(t, err)
	assert.Check(t, is.Contains(out, "SHOP_PASSWORD looks like a secret and stays"))
	out, err = run("secret", "get", "shop/shop_password")
	assert.NilError(t, err)
	assert.Equal(t, strings.TrimSpace(out), "hunter2-shell")
	_, err = os.Stat(".env.dso")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestMigrate_TheNameMayStandInAnyDocument(t *testing.T) {
	run := project(t, map[string]string{"compose.yaml": "services: {web: {image: shop, environment: {DB_PASSWORD: hunter2-db}}}\n---\nname: second\n"})
	out, err := run("migrate")
	assert.NilError(t, err)
	assert.Check(t, is.Contains(out, "secret second/db_password"))
}

func TestExport_KeepsBytesAndRefusesTwoOfOneName(t *testing.T) {
	run := project(t, map[string]string{"key": "\xff\x00"})
	_, err := run("secret", "set", "shop/key", "--file", "key")
	assert.NilError(t, err)
	_, err = run("export", "shop/key", "--output", "a.env")
	assert.ErrorContains(t, err, "use the format json")
	_, err = run("export", "shop/key", "--format", "json", "--output", "a.json")
	assert.NilError(t, err)
	text, err := os.ReadFile("a.json")
	assert.NilError(t, err)
	var read map[string]struct{ Base64 []byte }
	assert.NilError(t, json.Unmarshal(text, &read))
	assert.Equal(t, string(read["shop/key"].Base64), "\xff\x00")
}

func TestEnvImport_StoresNothingWhenTwoWouldBeOne(t *testing.T) {
	run := project(t, map[string]string{"a.env": "API_TOKEN=hunter2-0\nDB_PASSWORD=hunter2-1\ndb_password=hunter2-2\n"})
	_, err := run("env", "import", "a.env", "--namespace", "shop")
	assert.ErrorContains(t, err, "DB_PASSWORD and db_password")
	out, err := run("secret", "list")
	assert.NilError(t, err)
	assert.Check(t, !strings.Contains(out, "shop/"), out)
}
