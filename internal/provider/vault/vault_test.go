package vault

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// The conformance suite runs on a real server: test/providers.

func TestVersionName_CarriesTheNumber(t *testing.T) {
	name := versionInfo{Version: 12, CreatedTime: "2026-01-02T03:04:05Z"}.name()
	assert.Equal(t, number(name), 12)
	assert.Assert(t, name != versionInfo{Version: 12, CreatedTime: "2026-01-02T03:04:06Z"}.name())
	for _, v := range []secret.Version{"", "x", "-1", "0-abc", "1x-2"} {
		assert.Equal(t, number(v), 0, "%q", v)
	}
}

func TestVersionInfo_MayBeGoneLater(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for at, want := range map[string]bool{
		"": false, "2026-01-02T03:04:04.5Z": true, "2026-01-02T03:04:05Z": true, "2026-01-02T03:04:06Z": false,
	} {
		assert.Equal(t, versionInfo{DeletionTime: at}.gone(now), want, at)
	}
	assert.Assert(t, versionInfo{Destroyed: true}.gone(now))
}

// Its 400 is about the connection, and not about the token.
func TestVersion_OfAServerThatSpeaksTLSAtAnAddressWithout(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	token := Token(func() (secret.Value, error) { return secret.NewValue([]byte("token")), nil }, false)
	p, err := New("vault", Config{
		Address: strings.Replace(srv.URL, "https://", "http://", 1), Timeout: 10 * time.Second, Login: token, Mount: "kv", KVVersion: 2,
	}, provider.NewFingerprint([]byte("key")))
	assert.NilError(t, err)
	_, err = p.Version(t.Context(), "x")
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.Assert(t, !errors.Is(err, provider.ErrCredential), "%v", err)
	assert.ErrorContains(t, err, "provider vault: x: the store speaks TLS: its address must begin with https://")
}
