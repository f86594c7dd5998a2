package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Bounds of what is asked over TCP.
const (
	restConnections = 64
	restCall        = 10 * time.Second // a call takes no longer, but for a stream of events
)

// Token returns what callers over TCP must show; not set: they may ask for /health and
// /metrics only. It is read for each call, because it may change.
type Token func() (token secret.Value, set bool, err error)

// REST answers programs that cannot open the socket: a browser's dashboard, Prometheus, a
// load balancer. It tells and changes nothing, and tells no value.
func REST(b Backend, token Token, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, hr *http.Request) { health(w, hr, b, log) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, hr *http.Request) { b.Metrics().ServeHTTP(w, hr) })
	shown := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, hr *http.Request) {
			if status, err := authorize(hr, token); err != nil {
				log.Debug("call over TCP refused", "remote", hr.RemoteAddr, "path", hr.URL.Path, "error", err)
				w.Header().Set("WWW-Authenticate", "Bearer")
				restProblem(w, status, err)
				return
			}
			h(w, hr)
		})
	}
	tells(shown, "GET /api/status", log, b.Status)
	tells(shown, "GET /api/secrets", log, b.List)
	tells(shown, "GET /api/rotations", log, b.Rotations)
	shown("GET /api/events", func(w http.ResponseWriter, hr *http.Request) { tellEvents(w, hr, b.Events) })
	return mux
}

// tells is a route that answers what a method of the backend returns.
func tells[T any](shown func(string, http.HandlerFunc), pattern string, log *slog.Logger, call func(context.Context) (T, error)) {
	shown(pattern, func(w http.ResponseWriter, hr *http.Request) {
		resp, err := call(hr.Context())
		if err != nil {
			problem(w, err)
			return
		}
		answer(w, log, resp)
	})
}

// healthDeadline is how long a check of the health takes when the engine hangs. Those who
// check rarely wait for longer.
const healthDeadline = 4 * time.Second

// health says in one word how the host is: with status 200, or with 503 when it is so bad
// that somebody has to look at once. The reasons name containers, and need the token.
func health(w http.ResponseWriter, hr *http.Request, b Backend, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(hr.Context(), healthDeadline)
	defer cancel()
	st, err := b.Status(ctx)
	if err != nil {
		st.Health = wire.Unreachable // the engine, for one
	}
	w.Header().Set("Content-Type", "application/json")
	if st.Health == wire.Critical || st.Health == wire.Unreachable {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(w).Encode(map[string]string{"health": st.Health}); err != nil {
		log.Debug("answer not sent", "error", err)
	}
}

// authorize wants the token. Both sides are hashed, so that neither length nor content
// shows in the time that it takes.
func authorize(hr *http.Request, token Token) (status int, err error) {
	want, set, err := token()
	switch {
	case err != nil:
		return http.StatusInternalServerError, errors.New("the agent cannot read its token; its log says why")
	case !set:
		return http.StatusForbidden, errors.New("without agent.rest.token in dso.yaml there are /health and /metrics only")
	}
	given, ok := strings.CutPrefix(hr.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256(want.Reveal())
	if !ok || want.Len() == 0 || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return http.StatusUnauthorized, errors.New("the token is missing or wrong: send it as `Authorization: Bearer TOKEN`")
	}
	return http.StatusOK, nil
}

func restProblem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(wire.Problem{Error: err.Error(), Code: wire.CodeDenied})
}

// ServeTCP answers on a listener that others than this user can reach, until ctx ends.
func ServeTCP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: guarded(h), ReadHeaderTimeout: restCall / 2, ReadTimeout: restCall, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(netutil.LimitListener(l, restConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// guarded bounds how long an answer may take to be read, and keeps browsers from guessing
// what it is.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(restCall))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, hr)
	})
}
