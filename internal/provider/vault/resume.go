package vault

import (
	"context"
	"encoding/json"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// A lease dies with the token that made it. A login gives another token each time, so
// that the agent's restart would cost all accounts: the token is kept, sealed, as long
// as a lease hangs on it.

// keptToken is what is sealed.
type keptToken struct {
	Login string `json:"login"` // that got it, without its credential
	Token string `json:"token"`
}

// loadToken finds the token that the leases of before die with.
func (ls *leases) loadToken() {
	if ls.resume == "" {
		return
	}
	sealed, err := ls.memory.Token()
	var k keptToken
	if err != nil || json.Unmarshal(sealed.Reveal(), &k) != nil || k.Login != ls.resume {
		return
	}
	for _, l := range ls.byPath {
		if l.Parent == short(k.Token) {
			ls.before, ls.kept = k.Token, l.Parent
			return
		}
	}
}

// keepToken keeps a token that has made a lease. An error costs new accounts after the
// next restart.
func (ls *leases) keepToken(token string) {
	if ls.memory == nil || ls.resume == "" {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.kept == short(token) {
		return
	}
	text, err := json.Marshal(keptToken{ls.resume, token})
	if err == nil && ls.memory.KeepToken(secret.NewValue(text)) == nil {
		ls.kept = short(token)
	}
}

func (ls *leases) tokenBefore() string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.before
}

func (ls *leases) forgetBefore() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.before = ""
}

// resuming uses the token of the agent before once, if it is any good, and then logs in
// as login does.
func resuming(ls *leases, login Login) Login {
	return func(ctx context.Context, c *conn) (grant, error) {
		token := ls.tokenBefore()
		if token == "" {
			return login(ctx, c)
		}
		g, err := lookup(ctx, c, token)
		if err != nil && provider.Retryable(err) {
			return grant{}, err // it may be good still
		}
		ls.forgetBefore()
		if err != nil {
			return login(ctx, c)
		}
		return g, nil
	}
}
