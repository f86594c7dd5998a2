package providertest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Put stores value as the current version of the secret at path and returns
// that version. It fails the test itself when the store refuses.
type Put func(path string, value []byte) secret.Version

// New returns a provider of an empty store and what writes to that store. It is
// called once for each case of the suite.
type New func(t *testing.T) (provider.Provider, Put)

// Options adapt the suite to a store that cannot do everything.
type Options struct {
	// Path is where the suite's secrets lie; "app/x" when empty.
	Path string
	// TextOnly leaves out values that are not UTF-8.
	TextOnly bool
	// NoEmpty leaves out the empty value, which the store cannot hold.
	NoEmpty bool
	// NoHistory says that the store has the current value only: an older version
	// is ErrNoVersion, and a value that comes back may have its old version.
	NoHistory bool
	// Field is the member that holds the value, for a store of JSON objects.
	Field string
	// Prompt bounds the return from a cancelled call; 2 s when zero.
	Prompt time.Duration
}

// marker is the value that no error may show.
const marker = "c0ffee-correct-horse"

// Canary is what a harness puts into credentials, headers and bodies: no error may
// show it either.
const Canary = "t0ken-battery-staple"

// get reads a value and takes the field that holds it.
func get(t *testing.T, p provider.Provider, v secret.Version, o Options) (string, secret.Version, error) {
	t.Helper()
	value, ver, err := p.Get(t.Context(), o.Path, v)
	if err != nil {
		return "", ver, err
	}
	value, err = secret.Field(value, o.Field)
	return string(value.Reveal()), ver, err
}

// Run runs the suite with the options of a store that can do everything.
func Run(t *testing.T, open New) { RunWith(t, open, Options{}) }

// RunWith runs the suite.
func RunWith(t *testing.T, open New, opts Options) {
	if opts.Path == "" {
		opts.Path = "app/x"
	}
	if opts.Prompt == 0 {
		opts.Prompt = 2 * time.Second
	}
	cases := []struct {
		name string
		run  func(*testing.T, provider.Provider, Put, Options)
	}{
		{"Get_CurrentValueWithItsVersion", getCurrent},
		{"Get_ExactVersionAfterAnother", getExact},
		{"Get_ValuesArriveIntact", getIntact},
		{"Get_TenMegabytesArriveIntact", getHuge},
		{"Get_MissingSecretIsErrNotFound", getMissing},
		{"Get_MissingVersionIsErrNoVersion", getMissingVersion},
		{"Version_EqualsThatOfGet", versionEqualsGet},
		{"Version_ChangesWithTheValue", versionChanges},
		{"Version_StaysWithoutAChange", versionStays},
		{"Version_MissingSecretIsErrNotFound", versionMissing},
		{"Cancelled_ReturnsPromptly", cancelled},
		{"Concurrent_ValueAndVersionBelongTogether", concurrent},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, put := open(t)
			c.run(t, p, put, opts)
		})
	}
}

func getCurrent(t *testing.T, p provider.Provider, put Put, o Options) {
	want := put(o.Path, []byte(marker))
	value, ver, err := get(t, p, "", o)
	assert.NilError(t, err)
	assert.Equal(t, value, marker)
	assert.Equal(t, ver, want)
}

func getExact(t *testing.T, p provider.Provider, put Put, o Options) {
	first := put(o.Path, []byte("first"))
	second := put(o.Path, []byte("second"))
	wanted := map[secret.Version]string{first: "first", second: "second", "": "second"}
	if o.NoHistory {
		delete(wanted, first)
		_, _, err := p.Get(t.Context(), o.Path, first)
		assert.ErrorIs(t, err, provider.ErrNoVersion)
	}
	for ver, want := range wanted {
		value, got, err := get(t, p, ver, o)
		assert.NilError(t, err)
		assert.Equal(t, value, want)
		if ver != "" {
			assert.Equal(t, got, ver)
		}
	}
}

func getIntact(t *testing.T, p provider.Provider, put Put, o Options) {
	values := []string{"pa$$word ${HOME}", "trailing newline\n", " spaces ", `"quotes" 'and' \`, "ünïcödé", "{\"a\": 1}\n"}
	if !o.NoEmpty {
		values = append(values, "")
	}
	if !o.TextOnly {
		values = append(values, "nul \x00 and \xff\xfe", "\r\n")
	}
	for _, want := range values {
		ver := put(o.Path, []byte(want))
		value, _, err := get(t, p, ver, o)
		assert.NilError(t, err)
		assert.Equal(t, value, want)
	}
}

func getHuge(t *testing.T, p provider.Provider, put Put, o Options) {
	want := strings.Repeat("0123456789", 1<<20)
	put(o.Path, []byte(want))
	value, _, err := get(t, p, "", o)
	assert.NilError(t, err)
	assert.Assert(t, value == want, "%d bytes", len(value))
}

func getMissing(t *testing.T, p provider.Provider, put Put, o Options) {
	put(o.Path, []byte(marker))
	_, _, err := p.Get(t.Context(), o.Path+"-missing", "")
	assert.ErrorIs(t, err, provider.ErrNotFound)
	assert.Assert(t, !provider.Retryable(err))
	assertExplained(t, err, o.Path+"-missing")
}

func getMissingVersion(t *testing.T, p provider.Provider, put Put, o Options) {
	put(o.Path, []byte(marker))
	for _, ver := range []secret.Version{"4711", "no-such-version"} {
		_, _, err := p.Get(t.Context(), o.Path, ver)
		assert.ErrorIs(t, err, provider.ErrNoVersion)
		assertExplained(t, err, o.Path)
	}
}

func versionEqualsGet(t *testing.T, p provider.Provider, put Put, o Options) {
	want := put(o.Path, []byte(marker))
	ver, err := p.Version(t.Context(), o.Path)
	assert.NilError(t, err)
	assert.Equal(t, ver, want)
	_, got, err := p.Get(t.Context(), o.Path, "")
	assert.NilError(t, err)
	assert.Equal(t, got, ver)
}

func versionChanges(t *testing.T, p provider.Provider, put Put, o Options) {
	seen := map[secret.Version]bool{}
	for _, value := range []string{"a", "b", "a"} {
		put(o.Path, []byte(value))
		ver, err := p.Version(t.Context(), o.Path)
		assert.NilError(t, err)
		assert.Assert(t, ver != "" && !seen[ver], "version %q came twice", ver)
		if o.NoHistory {
			clear(seen)
		}
		seen[ver] = true
	}
}

func versionStays(t *testing.T, p provider.Provider, put Put, o Options) {
	put(o.Path, []byte(marker))
	first, err := p.Version(t.Context(), o.Path)
	assert.NilError(t, err)
	put(o.Path+"-other", []byte("other"))
	again, err := p.Version(t.Context(), o.Path)
	assert.NilError(t, err)
	assert.Equal(t, first, again)
}

func versionMissing(t *testing.T, p provider.Provider, _ Put, o Options) {
	_, err := p.Version(t.Context(), o.Path)
	assert.ErrorIs(t, err, provider.ErrNotFound)
	assertExplained(t, err, o.Path)
}

func cancelled(t *testing.T, p provider.Provider, put Put, o Options) {
	put(o.Path, []byte(marker))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	_, _, err := p.Get(ctx, o.Path, "")
	assert.ErrorIs(t, err, context.Canceled)
	assertSilent(t, err)
	_, err = p.Version(ctx, o.Path)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Assert(t, time.Since(began) < o.Prompt, "took %s", time.Since(began))
}

// concurrent writes and reads at once. Every value is unique, so one that comes
// under another value's version is noticed.
func concurrent(t *testing.T, p provider.Provider, put Put, o Options) {
	const writes, readers = 10, 4
	var mu sync.Mutex
	byVersion := map[secret.Version]string{}
	read := map[secret.Version]string{}
	byVersion[put(o.Path, []byte("value 0"))] = "value 0"

	done := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for finished := false; !finished; {
				select {
				case <-done:
					finished = true
				default:
				}
				value, ver, err := get(t, p, "", o)
				assert.Check(t, err)
				_, err = p.Version(t.Context(), o.Path)
				assert.Check(t, err)
				mu.Lock()
				read[ver] = value
				mu.Unlock()
			}
		})
	}
	for i := range writes {
		value := fmt.Sprint("value ", i+1)
		byVersion[put(o.Path, []byte(value))] = value
	}
	close(done)
	wg.Wait()
	for ver, value := range read {
		assert.Equal(t, value, byVersion[ver])
	}
}

// assertSilent fails when an error shows the marker or the canary.
func assertSilent(t *testing.T, err error) {
	t.Helper()
	for _, word := range []string{marker, Canary} {
		assert.Assert(t, !strings.Contains(fmt.Sprintf("%v %+v", err, err), word), "an error contains a secret: %v", err)
	}
}
