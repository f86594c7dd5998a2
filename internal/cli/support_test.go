package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/migrate"
)

func TestWriteBundle_PacksWhatThereIsAndSaysWhatIsNot(t *testing.T) {
	var out bytes.Buffer
	missing, err := writeBundle(t.Context(), &out, []part{
		{"a.txt", func(context.Context) ([]byte, error) {
			return []byte("proxy http://user:hunter2@proxy:3128/ and https://x.example/"), nil
		}},
		{"b.txt", func(context.Context) ([]byte, error) { return nil, errors.New("no b") }},
		{"c.txt", func(context.Context) ([]byte, error) { return []byte("half"), errors.New("no more of c") }},
	}, time.Unix(1, 0))
	assert.NilError(t, err)
	assert.DeepEqual(t, missing, []string{"b.txt: no b", "c.txt: no more of c"})
	zip, err := gzip.NewReader(&out)
	assert.NilError(t, err)
	got := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		text, err := io.ReadAll(r)
		assert.NilError(t, err)
		got[h.Name] = string(text)
		assert.Equal(t, h.Mode, int64(0o600))
	}
	assert.DeepEqual(t, got, map[string]string{
		"dso-support/a.txt":       "proxy http://REDACTED@proxy:3128/ and https://x.example/",
		"dso-support/c.txt":       "half",
		"dso-support/missing.txt": "b.txt: no b\nc.txt: no more of c\n",
	})
}

func TestWriteBeside_NeverOverwritesAndKeepsTheMode(t *testing.T) {
	dir := t.TempDir()
	original := filepath.Join(dir, "compose.yaml")
	assert.NilError(t, os.WriteFile(original, []byte("a"), 0o640))
	f := migrate.Output{Original: original, Path: migrate.Beside(original), Text: []byte("b")}
	assert.NilError(t, writeBeside(f))
	info, err := os.Stat(f.Path)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o640))
	assert.ErrorIs(t, writeBeside(f), os.ErrExist)
	assert.ErrorContains(t, freeNames(migrate.Plan{Files: []migrate.Output{f}}), "is there already")
	assert.NilError(t, os.Remove(f.Path))
	assert.NilError(t, os.Symlink(original, f.Path))
	assert.ErrorIs(t, writeBeside(f), os.ErrExist, "nor what a link leads to")
	text, err := os.ReadFile(original)
	assert.NilError(t, err)
	assert.Equal(t, string(text), "a")
}

func TestExport_NeedsAPlaceAndOverwritesNothing(t *testing.T) {
	socket := agentStub(t, full())
	t.Chdir(t.TempDir())
	_, _, err := said(t, nil, "--socket", socket, "export", "shop/db")
	assert.Equal(t, ExitCode(err), ExitUsage)
	assert.NilError(t, os.WriteFile("there", []byte("x"), 0o600))
	_, _, err = said(t, nil, "--socket", socket, "export", "shop/db", "--output", "there")
	assert.Assert(t, err != nil)
	text, err := os.ReadFile("there")
	assert.NilError(t, err)
	assert.Equal(t, string(text), "x")
}
