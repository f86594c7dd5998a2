package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// kept is a memory of what the agent before has left: a lease under a token.
type kept struct {
	data  []byte
	token secret.Value
}

func (k *kept) Load() ([]byte, error)  { return k.data, nil }
func (k *kept) Save(data []byte) error { k.data = data; return nil }
func (k *kept) Recall(string, secret.Version) (secret.Value, error) {
	return secret.Value{}, provider.ErrNoVersion
}
func (k *kept) Token() (secret.Value, error)   { return k.token, nil }
func (k *kept) KeepToken(v secret.Value) error { k.token = v; return nil }
func leftBehind(t *testing.T, login, token string, ends time.Time) *kept {
	t.Helper()
	data, err := json.Marshal(saved{"server", map[string]*lease{"db/creds/shop": {ID: "lease", Parent: short(token), End: ends}}})
	assert.NilError(t, err)
	text, err := json.Marshal(keptToken{login, token})
	assert.NilError(t, err)
	return &kept{data, secret.NewValue(text)}
}

func TestResuming_GoesOnWithTheTokenOfTheLeasesOnceAndOnlyWhileItHolds(t *testing.T) {
	now := time.Now()
	hour := now.Add(time.Hour)
	for name, tc := range map[string]struct {
		login, token string
		ends         time.Time
		answer       int
		want         string
	}{
		"it holds":                       {"approle dso", "old", hour, http.StatusOK, "old"},
		"it was revoked":                 {"approle dso", "old", hour, http.StatusForbidden, "new"},
		"it is of another login":         {"approle other", "old", hour, http.StatusOK, "new"},
		"no lease hangs on it":           {"approle dso", "old", now.Add(-time.Hour), http.StatusOK, "new"},
		"the server does not answer yet": {"approle dso", "old", hour, http.StatusServiceUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := tc.answer
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Check(t, strings.HasSuffix(r.URL.Path, "auth/token/lookup-self"), r.URL.Path)
				w.WriteHeader(answer)
				_, _ = w.Write([]byte(`{"data":{"ttl":3600,"renewable":true}}`))
			}))
			defer srv.Close()
			c, err := newConn(Config{Address: srv.URL, Timeout: 10 * time.Second})
			assert.NilError(t, err)
			ls := newLeases(leftBehind(t, tc.login, tc.token, tc.ends), "server", "approle dso", now)
			login := resuming(ls, func(context.Context, *conn) (grant, error) { return grant{token: "new"}, nil })
			g, err := login(t.Context(), c)
			if tc.want == "" {
				assert.Assert(t, provider.Retryable(err), "%v", err)
				answer = http.StatusOK
				g, err = login(t.Context(), c)
				tc.want = "old"
			}
			assert.NilError(t, err)
			assert.Equal(t, g.token, tc.want)
			g, err = login(t.Context(), c)
			assert.NilError(t, err)
			assert.Equal(t, g.token, "new", "a token that is no good any more is not taken twice")
		})
	}
}

func TestKeepToken_KeepsTheOneThatMadeALease(t *testing.T) {
	m := &kept{}
	ls := newLeases(m, "server", "approle dso", time.Now())
	ls.keepToken("one")
	ls.keepToken("two")
	var k keptToken
	assert.NilError(t, json.Unmarshal(m.token.Reveal(), &k))
	assert.DeepEqual(t, k, keptToken{"approle dso", "two"})
	m.token = secret.Value{}
	ls.keepToken("two") // it is kept already
	assert.Equal(t, m.token.Len(), 0)

	newLeases(m, "server", "", time.Now()).keepToken("three")
	assert.Equal(t, m.token.Len(), 0, "a token of the configuration is there again after a restart")
}
