package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/load"
)

func TestLoad_WritesAResultThatCanBeRead(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "v1")
	}))
	defer s.Close()
	out := filepath.Join(t.TempDir(), "result.json")
	args := []string{"-url", s.URL, "-rate", "100", "-duration", "200ms", "-out", out, "-resolve-once"}
	assert.NilError(t, run(t.Context(), args, io.Discard))
	r, err := load.ReadFile(out)
	assert.NilError(t, err)
	assert.Assert(t, r.Requests > 10)
	assert.Equal(t, r.Failed, 0)
	assert.Equal(t, r.Answers[0].Body, "v1")
}
