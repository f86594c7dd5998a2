package frontimage_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/docker-secret-operator/dso/internal/address/frontimage"
	"gotest.tools/v3/assert"
)

var binary = []byte("not really a program")

func TestTar_SameBinarySameBytes(t *testing.T) {
	one, tag1 := build(t, binary)
	two, tag2 := build(t, binary)
	assert.Assert(t, bytes.Equal(one, two))
	assert.Equal(t, tag1, tag2)
}

func TestTar_AnotherBinaryGetsAnotherTag(t *testing.T) {
	_, one := build(t, binary)
	_, two := build(t, []byte("another program"))
	assert.Assert(t, one != two)
	assert.Equal(t, one, "dso-front:"+sum(binary)[:12])
	assert.Equal(t, one, frontimage.Tag(binary))
}

func TestTar_IsAnImageTheEngineCanLoad(t *testing.T) {
	archive, tag := build(t, binary)
	files := unpack(t, archive)
	var index []struct {
		Config           string
		RepoTags, Layers []string
	}
	assert.NilError(t, json.Unmarshal(files["manifest.json"], &index))
	assert.Equal(t, len(index), 1)
	assert.DeepEqual(t, index[0].RepoTags, []string{tag})
	config := files[index[0].Config]
	assert.Equal(t, index[0].Config, sum(config)+".json", "the engine names a configuration by its digest")
	assert.Equal(t, len(index[0].Layers), 1)
	layer := files[index[0].Layers[0]]

	var c struct {
		OS     string `json:"os"`
		Config struct {
			Entrypoint []string
			Labels     map[string]string
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	assert.NilError(t, json.Unmarshal(config, &c))
	assert.Equal(t, c.OS, "linux")
	assert.DeepEqual(t, c.Config.Entrypoint, []string{"/dso-front"})
	assert.Equal(t, c.Config.Labels["dso.role"], "front")
	assert.DeepEqual(t, c.RootFS.DiffIDs, []string{"sha256:" + sum(layer)})
	assert.DeepEqual(t, unpack(t, layer)["dso-front"], binary)
}

func TestTar_TheProgramIsExecutableAndRoots(t *testing.T) {
	archive, _ := build(t, binary)
	var layer []byte
	for name, data := range unpack(t, archive) {
		if bytes.HasSuffix([]byte(name), []byte("/layer.tar")) {
			layer = data
		}
	}
	h, err := tar.NewReader(bytes.NewReader(layer)).Next()
	assert.NilError(t, err)
	assert.Equal(t, h.Name, "dso-front")
	assert.Equal(t, h.Mode, int64(0o755))
	assert.Equal(t, h.Uid, 0)
}

func TestTar_RefusesAnEmptyBinary(t *testing.T) {
	_, _, err := frontimage.Tar(nil)
	assert.ErrorIs(t, err, frontimage.ErrEmpty)
}

func build(t *testing.T, binary []byte) ([]byte, string) {
	t.Helper()
	r, tag, err := frontimage.Tar(binary)
	assert.NilError(t, err)
	data, err := io.ReadAll(r)
	assert.NilError(t, err)
	return data, tag
}

func unpack(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		assert.NilError(t, err)
		files[h.Name], err = io.ReadAll(r)
		assert.NilError(t, err)
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
