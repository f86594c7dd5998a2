package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/image"
)

func TestArchive_TheSameImageGivesTheSameBytes(t *testing.T) {
	i := image.Image{
		Tag: "dso-agent:1", Files: map[string][]byte{"b": []byte("two"), "a": []byte("one")},
		Dirs: []string{"run/dso", "run/lock", "tmp"}, Entrypoint: []string{"/a", "-x"},
	}
	one, err := image.Archive(i)
	assert.NilError(t, err)
	two, err := image.Archive(i)
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(one, two))

	var layer []byte
	for r := tar.NewReader(bytes.NewReader(one)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		if bytes.HasSuffix([]byte(h.Name), []byte("/layer.tar")) {
			layer, err = io.ReadAll(r)
			assert.NilError(t, err)
		}
	}
	var found []string
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		found = append(found, h.Name)
	}
	assert.DeepEqual(t, found, []string{"a", "b", "run/", "run/dso/", "run/lock/", "tmp/"})
}
