package frontimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

const (
	// Entrypoint is where the program lies in the image.
	Entrypoint = "/dso-front"
	// MapDir is the mount point for a front's directory, and where the program
	// looks by default.
	MapDir = "/run/dso-front"
	// RoleLabel marks the image, and with it every container made from it.
	RoleLabel = "dso.role"
	// Role is the value of RoleLabel.
	Role = "front"

	repository = "dso-front"
)

// ErrEmpty says that there is no program to pack.
var ErrEmpty = errors.New("empty binary")

var epoch = time.Unix(0, 0).UTC()

// image is the configuration of Docker's image specification v1.2, as far as it
// is used here.
type image struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       settings  `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
	History      []history `json:"history"`
}

type settings struct {
	User       string            `json:"User"`
	Entrypoint []string          `json:"Entrypoint"`
	WorkingDir string            `json:"WorkingDir"`
	Labels     map[string]string `json:"Labels"`
	StopSignal string            `json:"StopSignal"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// manifest is one entry of manifest.json in an archive for "docker load".
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Tag names the image of a binary: dso-front:<12 hex digits of its sha256>.
func Tag(binary []byte) string {
	sum := sha256.Sum256(binary)
	return repository + ":" + hex.EncodeToString(sum[:])[:12]
}

// Tar packs a static dso-front for this machine's architecture into an archive
// for the engine's image load, and returns the tag that it will have. The error
// wraps ErrEmpty when there is nothing to pack.
func Tar(binary []byte) (archive io.Reader, tag string, err error) {
	if len(binary) == 0 {
		return nil, "", fmt.Errorf("pack front image: %w", ErrEmpty)
	}
	tag = Tag(binary)
	layer, err := pack([]entry{
		{name: "dso-front", mode: 0o755, data: binary},
		{name: "run/", mode: 0o755},
		{name: "run/dso-front/", mode: 0o755},
	})
	if err != nil {
		return nil, "", fmt.Errorf("pack front image: %w", err)
	}
	layerID := digest(layer)
	config, err := json.Marshal(configuration(layerID))
	if err != nil {
		return nil, "", fmt.Errorf("pack front image: %w", err)
	}
	configName, layerName := digest(config)+".json", layerID+"/layer.tar"
	index, err := json.Marshal([]manifest{{Config: configName, RepoTags: []string{tag}, Layers: []string{layerName}}})
	if err != nil {
		return nil, "", fmt.Errorf("pack front image: %w", err)
	}
	whole, err := pack([]entry{
		{name: configName, mode: 0o644, data: config},
		{name: layerID + "/", mode: 0o755},
		{name: layerName, mode: 0o644, data: layer},
		{name: "manifest.json", mode: 0o644, data: index},
	})
	if err != nil {
		return nil, "", fmt.Errorf("pack front image: %w", err)
	}
	return bytes.NewReader(whole), tag, nil
}

func configuration(layerID string) image {
	return image{
		Created:      epoch,
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config: settings{
			User:       "0:0",
			Entrypoint: []string{Entrypoint},
			WorkingDir: "/",
			Labels:     map[string]string{RoleLabel: Role},
			StopSignal: "SIGTERM",
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layerID}},
		History: []history{{Created: epoch, CreatedBy: "dso"}},
	}
}

// entry is a file or, with a name that ends in a slash, a directory.
type entry struct {
	name string
	mode int64
	data []byte
}

func pack(entries []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: epoch, Format: tar.FormatUSTAR}
		if e.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
