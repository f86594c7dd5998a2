package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// session holds the token.
type session struct {
	conn  *conn
	login Login
	now   func() time.Time

	// turn is taken by whoever uses the fields below.
	turn    chan struct{}
	held    grant
	full    time.Duration // the life at the login
	renewAt time.Time     // zero: never
	expires time.Time     // zero: never
}

func newSession(c *conn, login Login) *session {
	return &session{conn: c, login: login, now: time.Now, turn: make(chan struct{}, 1)}
}

func (s *session) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the login: %w", ctx.Err())
	}
}

func (s *session) give() { <-s.turn }

// token returns a token that holds, as far as one can tell without asking.
func (s *session) token(ctx context.Context) (string, error) {
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer s.give()
	now := s.now()
	switch {
	case s.held.token == "":
	case s.renewAt.IsZero() || now.Before(s.renewAt):
		return s.held.token, nil
	case s.held.renewable && now.Before(s.expires):
		g, err := renew(ctx, s.conn, s.held.token)
		// Near the end of its greatest life a token is renewed for less and less.
		if err == nil && g.ttl >= s.full/2 {
			s.hold(g, s.full)
			return g.token, nil
		}
		if err != nil && !errors.Is(err, provider.ErrPermanent) && now.Before(s.expires) {
			return s.held.token, nil // the server is busy, the token holds still
		}
	}
	return s.enter(ctx)
}

// enter logs in.
func (s *session) enter(ctx context.Context) (string, error) {
	g, err := s.login(ctx, s.conn)
	if err != nil {
		if held := s.held.token; held != "" && s.now().Before(s.expires) && !errors.Is(err, provider.ErrPermanent) {
			return held, nil
		}
		s.held = grant{}
		return "", err
	}
	s.hold(g, g.ttl)
	return g.token, nil
}

// end returns when the token that is held ends; zero: never, or nobody knows.
func (s *session) end(ctx context.Context) time.Time {
	if s.take(ctx) != nil {
		return time.Time{}
	}
	defer s.give()
	return s.expires
}

func (s *session) hold(g grant, full time.Duration) {
	s.held, s.full, s.renewAt, s.expires = g, full, time.Time{}, time.Time{}
	if g.ttl > 0 {
		s.renewAt, s.expires = s.now().Add(g.ttl*2/3), s.now().Add(g.ttl)
	}
}

// rejected says what a refusal with this token meant: nil when the token is no good
// any more and another was got, ErrDenied when it holds.
func (s *session) rejected(ctx context.Context, token string, refusal error) error {
	if _, err := lookup(ctx, s.conn, token); !errors.Is(err, provider.ErrCredential) {
		if err != nil {
			return err
		}
		return refusal
	}
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if s.held.token != "" && s.held.token != token {
		return nil // somebody else was here
	}
	s.held = grant{}
	_, err := s.enter(ctx)
	return err
}

// next returns when the token should be looked after again.
func (s *session) next(ctx context.Context) time.Duration {
	const longest, shortest = time.Hour, time.Second
	if s.take(ctx) != nil {
		return longest
	}
	defer s.give()
	if s.renewAt.IsZero() {
		return longest
	}
	return min(max(s.renewAt.Sub(s.now()), shortest), longest)
}
