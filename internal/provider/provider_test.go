package provider_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

func TestRetryable_FollowsTheSentinels(t *testing.T) {
	for _, err := range []error{provider.ErrNotFound, provider.ErrNoVersion, provider.ErrPermanent, provider.ErrDenied, provider.ErrCredential, provider.ErrTooLarge} {
		assert.Assert(t, !provider.Retryable(fmt.Errorf("x: %w", err)), "%v", err)
	}
	for _, err := range []error{errors.New("reset"), provider.ErrMalformed, &provider.Throttled{After: time.Second}} {
		assert.Assert(t, provider.Retryable(fmt.Errorf("x: %w", err)), "%v", err)
	}
	assert.Assert(t, !provider.Retryable(nil))
}

// failing fails with its errors, one a call, and then succeeds.
type failing struct {
	errs  []error
	calls []time.Time
}

func (f *failing) Version(context.Context, string) (secret.Version, error) {
	f.calls = append(f.calls, time.Now())
	if n := len(f.calls); n <= len(f.errs) {
		return "", f.errs[n-1]
	}
	return "1", nil
}

func (f *failing) Get(ctx context.Context, path string, _ secret.Version) (secret.Value, secret.Version, error) {
	v, err := f.Version(ctx, path)
	return secret.NewValue([]byte("v")), v, err
}

func pauses(f *failing) []time.Duration {
	var out []time.Duration
	for i := 1; i < len(f.calls); i++ {
		out = append(out, f.calls[i].Sub(f.calls[i-1]))
	}
	return out
}

func TestRetry_PausesLongerEachTimeAndBelievesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		f := &failing{errs: []error{down, &provider.Throttled{After: 7 * time.Second}, down}}
		r := &provider.Retry{Provider: f, Name: "p", Attempts: 4, Backoff: time.Second}
		v, err := r.Version(t.Context(), "a/b")
		assert.NilError(t, err)
		assert.Equal(t, v, secret.Version("1"))
		assert.DeepEqual(t, pauses(f), []time.Duration{time.Second, 7 * time.Second, 4 * time.Second})
	})
}

func TestRetry_EndsWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		for name, tc := range map[string]struct {
			errs    []error
			timeout time.Duration
			calls   int
		}{
			"attempts":  {[]error{down, down, down, down}, time.Hour, 3},
			"permanent": {[]error{provider.ErrDenied}, time.Hour, 1},
			"missing":   {[]error{provider.ErrNotFound}, time.Hour, 1},
			"no time":   {[]error{&provider.Throttled{After: time.Minute}}, 10 * time.Second, 1},
		} {
			f := &failing{errs: tc.errs}
			r := &provider.Retry{Provider: f, Name: "p", Attempts: 3, Backoff: time.Second}
			ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
			_, _, err := r.Get(ctx, "a/b", "")
			cancel()
			assert.ErrorIs(t, err, tc.errs[0], name)
			assert.ErrorContains(t, err, "provider p: a/b: ", name)
			assert.Equal(t, len(f.calls), tc.calls, name)
		}
	})
}

func TestFingerprint_DependsOnValueAndKeyAndShowsNeither(t *testing.T) {
	a, b := provider.NewFingerprint([]byte("key a")), provider.NewFingerprint([]byte("key b"))
	assert.Equal(t, a.Version([]byte("x")), a.Version([]byte("x")))
	assert.Assert(t, a.Version([]byte("x")) != a.Version([]byte("y")))
	assert.Assert(t, a.Version([]byte("x")) != b.Version([]byte("x")))
	_, _, err := a.Check([]byte("x"), b.Version([]byte("x")))
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}

func TestCheckVersion_RefusesWhatCannotBeShown(t *testing.T) {
	for _, good := range []secret.Version{"", "7", `"etag"`, "W/\"a b\"", "ünïcödé", secret.Version(strings.Repeat("v", 256))} {
		assert.NilError(t, provider.CheckVersion(good))
	}
	for _, bad := range []secret.Version{"canary\n", "canary\x1b[31m", "canary\x00", "canary\xff", "canary\u202e", secret.Version(strings.Repeat("canary", 50))} {
		err := provider.CheckVersion(bad)
		assert.ErrorIs(t, err, provider.ErrMalformed)
		assert.Assert(t, !strings.Contains(err.Error(), "canary"), "%v", err)
	}
}
