package vault

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

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
