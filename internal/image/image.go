// Package image packs static programs into an image that the engine can load, without a
// registry and without a builder. The same image gives the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Image is an image of one layer, for this machine's architecture.
type Image struct {
	Tag        string
	Files      map[string][]byte // programs, by name, in the image's root
	Dirs       []string          // that are there, such as run/dso
	Entrypoint []string
	Labels     map[string]string
	Health     *Health // nil: the engine does not look at the containers
}

// Health is how the engine looks whether a container is well, with a program of the image.
type Health struct {
	Test     []string // the program and its arguments
	Interval time.Duration
	Timeout  time.Duration
	Retries  int
}

var epoch = time.Unix(0, 0).UTC()

// config is the configuration of Docker's image specification v1.2, as far as it is
// used here.
type config struct {
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
	Health     *health           `json:"Healthcheck,omitempty"`
}

type health struct {
	Test     []string      `json:"Test"` // the first one says how the others are run
	Interval time.Duration `json:"Interval"`
	Timeout  time.Duration `json:"Timeout"`
	Retries  int           `json:"Retries"`
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

// Archive packs an image for the engine's image load.
func Archive(i Image) ([]byte, error) {
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		entries = append(entries, entry{name: name, mode: 0o755, data: i.Files[name]})
	}
	made := map[string]bool{}
	for _, dir := range i.Dirs {
		whole := ""
		for part := range strings.SplitSeq(dir, "/") {
			if whole += part + "/"; !made[whole] {
				made[whole] = true
				entries = append(entries, entry{name: whole, mode: 0o755})
			}
		}
	}
	layer, err := pack(entries)
	if err != nil {
		return nil, err
	}
	layerID := digest(layer)
	config, err := json.Marshal(i.config(layerID))
	if err != nil {
		return nil, err
	}
	configName, layerName := digest(config)+".json", layerID+"/layer.tar"
	index, err := json.Marshal([]manifest{{Config: configName, RepoTags: []string{i.Tag}, Layers: []string{layerName}}})
	if err != nil {
		return nil, err
	}
	return pack([]entry{
		{name: configName, mode: 0o644, data: config},
		{name: layerID + "/", mode: 0o755},
		{name: layerName, mode: 0o644, data: layer},
		{name: "manifest.json", mode: 0o644, data: index},
	})
}

func (i Image) config(layerID string) config {
	return config{
		Created:      epoch,
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config: settings{
			User:       "0:0",
			Entrypoint: i.Entrypoint,
			WorkingDir: "/",
			Labels:     i.Labels,
			StopSignal: "SIGTERM",
			Health:     i.Health.config(),
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layerID}},
		History: []history{{Created: epoch, CreatedBy: "dso"}},
	}
}

func (h *Health) config() *health {
	if h == nil {
		return nil
	}
	return &health{Test: append([]string{"CMD"}, h.Test...), Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries}
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
