package rest

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
)

func TestRetryAfter_HasTwoForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": 24 * time.Hour, "999999": 24 * time.Hour,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0,
	} {
		assert.Equal(t, retryAfter(http.Header{"Retry-After": {text}}, now), want, text)
	}
}

func TestStatus_MeansWhatTheContractSays(t *testing.T) {
	for code, want := range map[int]error{
		404: provider.ErrNotFound, 403: provider.ErrDenied, 401: provider.ErrCredential,
		400: provider.ErrPermanent, 405: provider.ErrPermanent, 301: provider.ErrPermanent, 204: provider.ErrMalformed,
	} {
		assert.ErrorIs(t, Refusal(&http.Response{StatusCode: code}), want, "%d", code)
	}
	for _, code := range []int{408, 429, 500, 502, 503, 504} {
		err := Refusal(&http.Response{StatusCode: code, Header: http.Header{"Retry-After": {"3"}}})
		assert.Assert(t, provider.Retryable(err), "%d", code)
		assert.Equal(t, provider.RetryAfter(err), 3*time.Second, "%d", code)
	}
}

func TestFailed_LeavesTheAddressOut(t *testing.T) {
	err := Failed(&url.Error{Op: "Get", URL: "https://x/?key=canary", Err: errors.New("connection refused")})
	assert.Assert(t, !strings.Contains(err.Error(), "canary"))
	assert.ErrorContains(t, err, "connection refused")
}
