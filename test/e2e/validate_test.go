package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const toValidate = `name: checked
services:
  web:
    image: busybox
    environment: {DB: "dso://db", KEY: "dsofile://db#key"}
  worker:
    image: busybox
    environment: {NONE: "dso://missing"}
`

func TestValidate_TellsWhatCannotBeResolvedAndPrintsNoValue(t *testing.T) {
	h := sharedHost(t)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(toValidate), 0o600))
	h.set("checked/db", `{"nokey":"hunter2"}`)

	s := h.tryDSO(dir, "", "validate")
	assert.Check(t, is.Equal(s.code, 1))
	for _, want := range []string{"service web, variable KEY: ", "dsofile://db#key", "service worker, variable NONE: ", "provider local has no secret checked/missing"} {
		assert.Check(t, is.Contains(s.err, want))
	}
	h.set("checked/db", `{"key":"hunter2"}`)
	h.set("checked/missing", "hunter2")
	s = h.tryDSO(dir, "", "validate", "--resolve", "--json")
	assert.Check(t, is.Equal(s.code, 0), s.all())
	var v struct {
		Valid, Resolved bool
		References      []struct{ Service, Secret, Version string }
	}
	assert.NilError(t, json.Unmarshal([]byte(s.out), &v))
	assert.Check(t, v.Valid && v.Resolved && len(v.References) == 3)
	assert.Check(t, is.Equal(v.References[0].Secret, "local:checked/db"))
	assert.Check(t, is.Equal(v.References[0].Version, "2"))

	h.killAgent()
	s = h.tryDSO(dir, "", "validate")
	assert.Check(t, is.Equal(s.code, 0), s.all())
	assert.Check(t, is.Contains(s.out, "3 references (not resolved: no agent was asked)"))
	assert.Check(t, is.Equal(h.tryDSO(dir, "", "validate", "--resolve").code, 4))
	h.startAgent()

	assert.NilError(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("services:\n  a:\n    image: b\n    labels: {dso.update.strategi: rolling}\n    environment: {A: \"dso://a//b\"}\n"), 0o600))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "dso.yaml"), []byte("agnet: {}\n"), 0o600))
	s = h.tryDSO(dir, "", "validate", "--offline")
	assert.Check(t, is.Equal(s.code, 1))
	for _, want := range []string{"unknown key `agnet`, did you mean `agent`?", "dso://a//b"} {
		assert.Check(t, is.Contains(s.err, want))
	}
}
