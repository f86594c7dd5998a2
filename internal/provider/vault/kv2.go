package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// versionInfo is what KV 2 tells about one version.
type versionInfo struct {
	Version      int    `json:"version"`
	CreatedTime  string `json:"created_time"`
	DeletionTime string `json:"deletion_time"` // may lie ahead
	Destroyed    bool   `json:"destroyed"`
}

func (i versionInfo) gone(now time.Time) bool {
	at, err := time.Parse(time.RFC3339Nano, i.DeletionTime)
	return i.Destroyed || err == nil && !at.After(now)
}

// name is the version's name outside.
func (i versionInfo) name() secret.Version {
	sum := sha256.Sum256([]byte(i.CreatedTime))
	return secret.Version(fmt.Sprintf("%d-%x", i.Version, sum[:3]))
}

// number returns the number in a version's name; 0 when it has none.
func number(v secret.Version) int {
	digits, _, _ := strings.Cut(string(v), "-")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 {
		return 0
	}
	return n
}

// versionV2 reads the metadata, which holds no value; where only the data may be
// read, that.
func (p *Provider) versionV2(ctx context.Context, token string, at location) (secret.Version, error) {
	if p.mounts.dataOnly(at.mount) {
		_, v, err := p.readV2(ctx, token, at, "")
		return v, err
	}
	a, err := p.session.conn.ask(ctx, token, http.MethodGet, at.mount+"/metadata/"+at.path, nil)
	if errors.Is(err, provider.ErrDenied) {
		_, v, dataErr := p.readV2(ctx, token, at, "")
		if dataErr == nil {
			p.mounts.setDataOnly(at.mount)
		}
		return v, dataErr
	}
	if err != nil {
		return "", err
	}
	var m struct {
		Current  int                    `json:"current_version"`
		Versions map[string]versionInfo `json:"versions"`
	}
	if err := a.data(&m); err != nil {
		return "", err
	}
	info, ok := m.Versions[strconv.Itoa(m.Current)]
	info.Version = m.Current
	switch {
	case m.Current == 0: // metadata without a version yet
		return "", provider.ErrNotFound
	case !ok || info.CreatedTime == "":
		return "", fmt.Errorf("%w: the metadata lacks its current version", provider.ErrMalformed)
	case info.gone(p.session.now()):
		return "", fmt.Errorf("%w: version %d is deleted", provider.ErrNotFound, m.Current)
	}
	return info.name(), nil
}

func (p *Provider) readV2(ctx context.Context, token string, at location, want secret.Version) (secret.Value, secret.Version, error) {
	params := map[string]string{}
	if want != "" {
		n := number(want)
		if n == 0 {
			return secret.Value{}, "", provider.ErrNoVersion
		}
		params["version"] = strconv.Itoa(n)
	}
	// 404 has a body when the version is deleted.
	a, err := p.session.conn.ask(ctx, token, http.MethodGet, at.mount+"/data/"+at.path, params, http.StatusNotFound)
	if err != nil {
		return secret.Value{}, "", err
	}
	var d struct {
		Data     json.RawMessage `json:"data"`
		Metadata *versionInfo    `json:"metadata"`
	}
	if len(a.Data) > 0 {
		if err := a.data(&d); err != nil {
			return secret.Value{}, "", err
		}
	}
	switch {
	case a.status == http.StatusNotFound && want != "":
		return secret.Value{}, "", provider.ErrNoVersion
	case a.status == http.StatusNotFound && d.Metadata != nil:
		return secret.Value{}, "", fmt.Errorf("%w: version %d is deleted", provider.ErrNotFound, d.Metadata.Version)
	case a.status == http.StatusNotFound:
		return secret.Value{}, "", provider.ErrNotFound
	case d.Metadata == nil || d.Metadata.CreatedTime == "":
		return secret.Value{}, "", fmt.Errorf("%w: it has no version", provider.ErrMalformed)
	}
	v := d.Metadata.name()
	if want != "" && want != v {
		return secret.Value{}, "", provider.ErrNoVersion // of that number, but of an earlier life
	}
	value, err := object(d.Data)
	if err != nil {
		return secret.Value{}, "", err
	}
	return secret.NewValue(value), v, nil
}
