package frontimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/docker-secret-operator/dso/internal/image"
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
	packed, err := image.Archive(image.Image{
		Tag: tag, Files: map[string][]byte{"dso-front": binary}, Dirs: []string{"run/dso-front"},
		Entrypoint: []string{Entrypoint}, Labels: map[string]string{RoleLabel: Role},
	})
	if err != nil {
		return nil, "", fmt.Errorf("pack front image: %w", err)
	}
	return bytes.NewReader(packed), tag, nil
}
