package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Memory is what a provider of leases remembers beyond its own life.
type Memory interface {
	// Load returns what was saved last; nil when that is nothing.
	Load() ([]byte, error)
	// Save keeps data, which holds no value and no credential.
	Save(data []byte) error
	// Recall returns the value that was given out as that version, from where values
	// are sealed.
	Recall(path string, v secret.Version) (secret.Value, error)
	// Token returns what KeepToken was given last; an error when that is not there.
	Token() (secret.Value, error)
	// KeepToken keeps the token that the leases die with, sealed.
	KeepToken(secret.Value) error
}

// lease is an account that the server made for one path.
type lease struct {
	ID        string    `json:"lease_id"`
	Parent    string    `json:"token"` // fingerprint of the token that it dies with
	Renewable bool      `json:"renewable"`
	Full      int64     `json:"duration"` // seconds, when it was made
	RenewAt   time.Time `json:"renew_at"`
	End       time.Time `json:"end"`

	value secret.Value // empty after a restart
	asked time.Time    // last
}

// version is the lease's name outside. A lease's id is random, and no secret.
func (l *lease) version() secret.Version {
	return secret.Version(short(l.ID))
}

func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%x", sum[:8])
}

// last sets how long the lease lasts: no longer than the token that made it.
func (l *lease) last(now time.Time, seconds int64, tokenEnd time.Time) {
	l.End = now.Add(time.Duration(seconds) * time.Second)
	if !tokenEnd.IsZero() && tokenEnd.Before(l.End) {
		l.End = tokenEnd
	}
	l.RenewAt = now.Add(l.End.Sub(now) * 2 / 3)
}

// idle is how long a lease is kept alive for a path that nobody asks for; it is longer
// than any interval between two comparisons.
const idle = 48 * time.Hour

// leases holds one lease for each path that is asked for.
type leases struct {
	memory Memory // nil: nothing outlives the provider
	server string // whose leases they are
	resume string // which login the token is of; empty: it is not kept

	changed  chan struct{} // Keep has something else to wait for
	replaced chan struct{} // a path has another account

	unasked atomic.Bool // the policy forbids to ask for a lease

	// turn is taken by whoever makes or renews a lease.
	turn chan struct{}

	mu     sync.Mutex
	byPath map[string]*lease
	before string // the token of the agent before, until it is used or no good
	kept   string // fingerprint of the token that is kept
}

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // told already
	}
}

// saved is what memory keeps.
type saved struct {
	Server string            `json:"server"`
	Leases map[string]*lease `json:"leases"`
}

// newLeases remembers the leases of before. One that is lost costs a new account, and
// ends by itself.
func newLeases(memory Memory, server, resume string, now time.Time) *leases {
	ls := &leases{memory: memory, server: server, resume: resume, turn: make(chan struct{}, 1), changed: make(chan struct{}, 1), replaced: make(chan struct{}, 1), byPath: map[string]*lease{}}
	if memory == nil {
		return ls
	}
	text, err := memory.Load()
	var s saved
	if err != nil || json.Unmarshal(text, &s) != nil || s.Server != server {
		return ls
	}
	for path, l := range s.Leases {
		if l != nil && l.ID != "" && l.End.After(now) {
			l.asked = now
			ls.byPath[path] = l
		}
	}
	ls.loadToken()
	return ls
}

// save keeps what there is. An error costs new accounts after the next restart, and is
// none of whoever asked for a value.
func (ls *leases) save() {
	if ls.memory == nil {
		return
	}
	ls.mu.Lock()
	text, err := json.Marshal(saved{ls.server, ls.byPath})
	ls.mu.Unlock()
	if err == nil {
		_ = ls.memory.Save(text)
	}
}

func (ls *leases) take(ctx context.Context) error {
	select {
	case ls.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the lease: %w", ctx.Err())
	}
}

func (ls *leases) give() { <-ls.turn }

// next returns when a lease should be looked after, and its path.
func (ls *leases) next(now time.Time) (path string, at time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for p, l := range ls.byPath {
		if now.Sub(l.asked) > idle {
			delete(ls.byPath, p) // it ends by itself
			continue
		}
		if at.IsZero() || l.RenewAt.Before(at) {
			path, at = p, l.RenewAt
		}
	}
	return path, at
}

// find returns the lease of a path that needs nothing; nil when it does or is none.
func (ls *leases) find(path string, now time.Time, asked bool) *lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.byPath[path]
	if l == nil {
		return nil
	}
	if asked {
		l.asked = now
	}
	if now.After(l.RenewAt) {
		return nil
	}
	c := *l
	return &c
}

// lease returns the lease of a path: the one there is, renewed when it is time, or a new
// one. asked says that somebody wants to know, not only Keep.
func (p *Provider) lease(ctx context.Context, token string, at location, path string, asked bool) (*lease, error) {
	ls := p.leases
	if err := ls.take(ctx); err != nil {
		return nil, err
	}
	defer ls.give()
	now := p.session.now()
	if l := ls.find(path, now, asked); l != nil {
		return l, nil
	}
	ls.mu.Lock()
	old := ls.byPath[path]
	ls.mu.Unlock()
	if old != nil && old.End.After(now) {
		c := *old
		err := p.renewLease(ctx, token, &c)
		if err != nil && provider.Retryable(err) {
			return &c, nil // the server is busy, the account holds still
		}
		if err == nil {
			return p.remember(path, &c), nil
		}
	}
	return p.makeLease(ctx, token, at, path)
}

var errOver = fmt.Errorf("the lease is not renewed for long any more (%w)", provider.ErrPermanent)

// renewLease makes a lease last longer. Near the end of its greatest life a lease is
// renewed for less and less, and one whose token is not ours any more dies with it.
func (p *Provider) renewLease(ctx context.Context, token string, l *lease) error {
	if !l.Renewable || l.Parent != short(token) {
		return errOver
	}
	a, err := p.session.conn.ask(ctx, token, http.MethodPost, "sys/leases/renew", map[string]string{"lease_id": l.ID})
	switch {
	case err != nil:
		return err
	case a.LeaseDuration < l.Full/2:
		return errOver
	}
	l.last(p.session.now(), a.LeaseDuration, p.session.end(ctx))
	return nil
}

// revoked asks the server whether a lease is over before its time: somebody revoked it, or
// the token that made it. Where the policy forbids to ask, that is found out when it
// cannot be renewed.
func (p *Provider) revoked(ctx context.Context, token string, l *lease) (bool, error) {
	if p.leases.unasked.Load() {
		return false, nil
	}
	a, err := p.session.conn.ask(ctx, token, http.MethodPost, "sys/leases/lookup", map[string]string{"lease_id": l.ID}, http.StatusBadRequest)
	if errors.Is(err, provider.ErrDenied) {
		if _, lost := lookup(ctx, p.session.conn, token); lost != nil {
			return false, err // it was the token
		}
		p.leases.unasked.Store(true)
		return false, nil
	}
	return a.status == http.StatusBadRequest, err
}

// makeLease lets the server make an account. The one before is left to end by itself:
// containers that were not changed over yet use it.
func (p *Provider) makeLease(ctx context.Context, token string, at location, path string) (*lease, error) {
	a, err := p.role(ctx, token, at)
	if err != nil {
		return nil, err
	}
	if a.LeaseID == "" || a.LeaseDuration < 1 {
		return nil, fmt.Errorf("%w: it is no lease", provider.ErrMalformed)
	}
	now := p.session.now()
	l := &lease{ID: a.LeaseID, Parent: short(token), Renewable: a.Renewable, Full: a.LeaseDuration, asked: now}
	if l.value, err = account(a); err != nil {
		return nil, err
	}
	l.last(now, a.LeaseDuration, p.session.end(ctx))
	p.leases.keepToken(token)
	return p.remember(path, l), nil
}

// remember puts a lease in its place and returns a copy.
func (p *Provider) remember(path string, l *lease) *lease {
	ls := p.leases
	ls.mu.Lock()
	before := ls.byPath[path]
	ls.byPath[path] = l
	c := *l
	ls.mu.Unlock()
	ls.save()
	tell(ls.changed)
	if before != nil && before.ID != l.ID {
		tell(ls.replaced)
	}
	return &c
}

// readDynamic returns the account of a dynamic role. After a restart its value is in
// memory no more: it lies where values are sealed, or is lost, and then there is
// another account.
func (p *Provider) readDynamic(ctx context.Context, token string, at location, path string, want secret.Version) (secret.Value, secret.Version, error) {
	l, err := p.lease(ctx, token, at, path, true)
	switch {
	case err != nil:
		return secret.Value{}, "", err
	case want != "" && want != l.version():
		return secret.Value{}, "", provider.ErrNoVersion
	case l.value.Len() > 0:
		return l.value, l.version(), nil
	}
	if p.leases.memory != nil {
		value, err := p.leases.memory.Recall(path, l.version())
		if err == nil && value.Len() > 0 {
			return value, l.version(), nil
		}
	}
	if want != "" {
		return secret.Value{}, "", provider.ErrNoVersion
	}
	if l, err = p.replaceLease(ctx, token, at, path, l.version()); err != nil {
		return secret.Value{}, "", err
	}
	return l.value, l.version(), nil
}

// replaceLease makes a lease in the place of one that is revoked or whose value is lost;
// somebody else may have done so already.
func (p *Provider) replaceLease(ctx context.Context, token string, at location, path string, lost secret.Version) (*lease, error) {
	if err := p.leases.take(ctx); err != nil {
		return nil, err
	}
	defer p.leases.give()
	if l := p.leases.find(path, p.session.now(), true); l != nil && l.version() != lost && l.value.Len() > 0 {
		return l, nil
	}
	return p.makeLease(ctx, token, at, path)
}

// keepLease looks after the lease that is due first, and returns how long none is.
func (p *Provider) keepLease(ctx context.Context) time.Duration {
	const longest, afterError = time.Hour, 10 * time.Second
	now := p.session.now()
	path, at := p.leases.next(now)
	if path == "" {
		return longest
	}
	if at.After(now) {
		return min(at.Sub(now), longest)
	}
	err := p.with(ctx, path, func(token string, at location) error {
		_, err := p.lease(ctx, token, at, path, false)
		return err
	})
	if errors.Is(err, provider.ErrNotFound) {
		p.leases.mu.Lock()
		delete(p.leases.byPath, path)
		p.leases.mu.Unlock()
	}
	if err != nil {
		return afterError
	}
	return time.Second
}
