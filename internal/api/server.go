package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Caller is who asks, as the kernel says.
type Caller struct {
	UID uint32
	PID int32
}

// Backend does what the routes ask for. Its errors may be a [*Error].
type Backend interface {
	Init(ctx context.Context) (wire.VaultInfo, error)
	Set(ctx context.Context, who Caller, req wire.SetRequest) (wire.VersionResponse, error)
	Get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error)
	// Fetch reads a secret from its store, whichever that is.
	Fetch(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error)
	List(ctx context.Context) ([]wire.SecretInfo, error)
	Delete(ctx context.Context, req wire.NameRequest) error
	History(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error)
	Rollback(ctx context.Context, who Caller, req wire.NameRequest) (wire.VersionResponse, error)
	Rotate(ctx context.Context, req wire.RotateRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error)
	Status(ctx context.Context) (wire.Status, error)
	Container(ctx context.Context, req wire.ContainerRequest) (wire.ContainerDetail, error)
	// Pin keeps a container at the versions that it has until somebody unpins it.
	Pin(ctx context.Context, who Caller, req wire.ContainerRequest) (wire.PinResponse, error)
	Unpin(ctx context.Context, who Caller, req wire.ContainerRequest) (wire.PinResponse, error)
	SecretUsers(ctx context.Context, req wire.NameRequest) (wire.SecretUsers, error)
	Rotations(ctx context.Context) ([]wire.Rotation, error)
	Recover(ctx context.Context, req wire.RecoverRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error)
	MarkRecovered(ctx context.Context, req wire.RecoverRequest) (wire.Rotation, error)
	Locks(ctx context.Context) ([]wire.Lock, error)
	// Alive does not return when the agent hangs.
	Alive()
	// Pause returns when no rotation of the project is going on; none begins until resume.
	Pause(ctx context.Context, project string) (resume func(), err error)
	Check(ctx context.Context, req wire.CheckRequest) ([]wire.CheckResult, error)
	Seal(ctx context.Context) (wire.Seal, error)
	NewSealKey(ctx context.Context) (wire.Seal, error)
	Legacy(ctx context.Context) ([]wire.Leftover, error)
	Adopt(ctx context.Context, req wire.AdoptRequest) ([]wire.Leftover, error)
	FrontImage(ctx context.Context, req wire.FrontRequest) (wire.FrontImage, error)
	// Events returns what is kept of the events after a number, and a channel that is
	// closed when there is a newer one.
	Events(after uint64) (events []wire.Event, newer <-chan struct{})
	ConfigVersions(ctx context.Context) ([]wire.ConfigVersion, error)
	ConfigVersion(ctx context.Context, req wire.ConfigVersion) (wire.ConfigVersion, error)
	// TestNotifications sends a test to the destinations, or to the one that is named.
	TestNotifications(ctx context.Context, req wire.NotifyRequest) ([]wire.NotifyResult, error)
	// Denied is told of a call that the caller may not make.
	Denied(who Caller, call string)
	// Metrics answers in the format that Prometheus reads.
	Metrics() http.Handler
}

// Error is an error that the caller can do something about.
type Error struct {
	Code string // of a wire.Problem
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// maxBody bounds a request, in bytes: the greatest value, in base64, and room.
const maxBody = 32 << 20

type callerKey struct{}

// CallerOf returns who asked for what a [Backend] does.
func CallerOf(ctx context.Context) (who Caller, known bool) {
	who, known = ctx.Value(callerKey{}).(Caller)
	return who, known
}

// Serve answers on the listener until ctx ends.
func Serve(ctx context.Context, l net.Listener, b Backend, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           routes(b, log, nil),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			who, err := peer(c)
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, callerKey{}, who)
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// peer asks the kernel who is at the other end of a unix socket.
func peer(c net.Conn) (Caller, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return Caller{}, err
	}
	return Caller{UID: cred.Uid, PID: cred.Pid}, nil
}

// Access says who may use each route: only the owner, who is root and the agent's user,
// or whoever can open the socket, which is the group dso too.
func Access() (ownerOnly map[string]bool) {
	ownerOnly = map[string]bool{}
	routes(struct{ Backend }{}, nil, ownerOnly)
	return ownerOnly
}

func routes(b Backend, log *slog.Logger, ownerOnly map[string]bool) http.Handler {
	mux := http.NewServeMux()
	// group: whoever can open the socket; owner: root and the agent's user.
	denied := func(who Caller, call string) { b.Denied(who, call) }
	group, owner := router{mux, log, false, denied, ownerOnly}, router{mux, log, true, denied, ownerOnly}
	route(owner, "POST /v1/vault", func(ctx context.Context, _ Caller, _ struct{}) (wire.VaultInfo, error) { return b.Init(ctx) })
	route(group, "PUT /v1/secret", b.Set)
	route(owner, "POST /v1/secret/get", func(ctx context.Context, _ Caller, r wire.NameRequest) (wire.ValueResponse, error) {
		return b.Get(ctx, r)
	})
	route(owner, "POST /v1/secret/fetch", func(ctx context.Context, _ Caller, r wire.NameRequest) (wire.ValueResponse, error) {
		return b.Fetch(ctx, r)
	})
	route(group, "GET /v1/secrets", func(ctx context.Context, _ Caller, _ struct{}) ([]wire.SecretInfo, error) { return b.List(ctx) })
	route(group, "POST /v1/secret/delete", func(ctx context.Context, _ Caller, r wire.NameRequest) (struct{}, error) {
		return struct{}{}, b.Delete(ctx, r)
	})
	route(group, "POST /v1/secret/history", func(ctx context.Context, _ Caller, r wire.NameRequest) ([]wire.SecretVersion, error) {
		return b.History(ctx, r)
	})
	route(group, "POST /v1/secret/rollback", b.Rollback)
	route(group, "GET /v1/status", func(ctx context.Context, _ Caller, _ struct{}) (wire.Status, error) { return b.Status(ctx) })
	route(group, "POST /v1/container", func(ctx context.Context, _ Caller, r wire.ContainerRequest) (wire.ContainerDetail, error) {
		return b.Container(ctx, r)
	})
	route(group, "POST /v1/container/pin", b.Pin)
	route(group, "POST /v1/container/unpin", b.Unpin)
	route(group, "POST /v1/secret/users", func(ctx context.Context, _ Caller, r wire.NameRequest) (wire.SecretUsers, error) {
		return b.SecretUsers(ctx, r)
	})
	route(group, "GET /v1/rotations", func(ctx context.Context, _ Caller, _ struct{}) ([]wire.Rotation, error) { return b.Rotations(ctx) })
	route(group, "POST /v1/fronts/image", func(ctx context.Context, _ Caller, r wire.FrontRequest) (wire.FrontImage, error) {
		return b.FrontImage(ctx, r)
	})
	events(group, "GET /v1/events", b.Events)
	pause(group, "POST /v1/pause", b.Pause)
	route(group, "GET /v1/alive", func(context.Context, Caller, struct{}) (struct{}, error) { b.Alive(); return struct{}{}, nil })
	route(group, "GET /v1/locks", func(ctx context.Context, _ Caller, _ struct{}) ([]wire.Lock, error) { return b.Locks(ctx) })
	route(group, "POST /v1/references/check", func(ctx context.Context, _ Caller, r wire.CheckRequest) ([]wire.CheckResult, error) {
		return b.Check(ctx, r)
	})
	route(group, "GET /v1/seal", func(ctx context.Context, _ Caller, _ struct{}) (wire.Seal, error) { return b.Seal(ctx) })
	route(owner, "POST /v1/seal/key", func(ctx context.Context, _ Caller, _ struct{}) (wire.Seal, error) { return b.NewSealKey(ctx) })
	route(owner, "POST /v1/recover/mark", func(ctx context.Context, _ Caller, r wire.RecoverRequest) (wire.Rotation, error) {
		return b.MarkRecovered(ctx, r)
	})
	route(group, "GET /v1/config/versions", func(ctx context.Context, _ Caller, _ struct{}) ([]wire.ConfigVersion, error) {
		return b.ConfigVersions(ctx)
	})
	route(owner, "POST /v1/config/version", func(ctx context.Context, _ Caller, r wire.ConfigVersion) (wire.ConfigVersion, error) {
		return b.ConfigVersion(ctx, r)
	})
	route(group, "GET /v1/legacy", func(ctx context.Context, _ Caller, _ struct{}) ([]wire.Leftover, error) { return b.Legacy(ctx) })
	route(owner, "POST /v1/legacy", func(ctx context.Context, _ Caller, r wire.AdoptRequest) ([]wire.Leftover, error) {
		return b.Adopt(ctx, r)
	})
	route(group, "POST /v1/notifications/test", func(ctx context.Context, _ Caller, r wire.NotifyRequest) ([]wire.NotifyResult, error) {
		return b.TestNotifications(ctx, r)
	})
	group.pass("GET /metrics", func() http.Handler { return b.Metrics() })
	stream(group, "POST /v1/rotate", b.Rotate)
	stream(group, "POST /v1/recover", b.Recover)
	return mux
}

// router carries what all routes of one kind share.
type router struct {
	mux       *http.ServeMux
	log       *slog.Logger
	ownerOnly bool
	denied    func(who Caller, call string)
	access    map[string]bool // may be nil
}

func (r router) handle(pattern string, h http.HandlerFunc) {
	if r.access != nil {
		r.access[pattern] = r.ownerOnly
	}
	r.mux.HandleFunc(pattern, h)
}

// allow tells who asks, or why they may not.
func (r router) allow(hr *http.Request) (Caller, error) {
	who, known := CallerOf(hr.Context())
	switch {
	case !known:
		return who, &Error{Code: wire.CodeDenied, Err: errors.New("the kernel does not say who asks")}
	case r.ownerOnly && who.UID != 0 && int(who.UID) != os.Getuid():
		r.denied(who, hr.Pattern)
		return who, &Error{Code: wire.CodeDenied, Err: fmt.Errorf("user %d may not do this", who.UID), Hint: "run it as root"}
	}
	return who, nil
}

// pass is a route that is answered by somebody else.
func (r router) pass(pattern string, to func() http.Handler) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		if _, err := r.allow(hr); err != nil {
			problem(w, err)
			return
		}
		to().ServeHTTP(w, hr)
	})
}

func route[Req, Resp any](r router, pattern string, call func(context.Context, Caller, Req) (Resp, error)) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		who, err := r.allow(hr)
		if err != nil {
			problem(w, err)
			return
		}
		var req Req
		if hr.Method != http.MethodGet {
			if err := decode(w, hr, &req); err != nil {
				problem(w, err)
				return
			}
		}
		resp, err := call(hr.Context(), who, req)
		if err != nil {
			problem(w, err)
			return
		}
		answer(w, r.log, resp)
	})
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return &Error{Code: wire.CodeInvalid, Err: fmt.Errorf("read request: %w", err)}
	}
	return nil
}

func answer(w http.ResponseWriter, log *slog.Logger, resp any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(resp); err != nil {
		log.Debug("answer not sent", "error", err)
	}
}

// statuses maps the codes of problems to HTTP's.
var statuses = map[string]int{
	wire.CodeNotFound: http.StatusNotFound, wire.CodeDenied: http.StatusForbidden,
	wire.CodeInvalid: http.StatusBadRequest, wire.CodeEmpty: http.StatusBadRequest,
	wire.CodeInUse: http.StatusConflict, wire.CodeNoVault: http.StatusPreconditionFailed,
}

func problem(w http.ResponseWriter, err error) {
	p := wire.Problem{Error: err.Error()}
	var known *Error
	if errors.As(err, &known) {
		p.Code, p.Hint = known.Code, known.Hint
	}
	status, ok := statuses[p.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

// stream is a route that tells the steps of rotations as they happen.
func stream[Req any](r router, pattern string, call func(context.Context, Req, func(wire.RotateStep)) ([]wire.RotateResult, error)) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		_, err := r.allow(hr)
		var req Req
		if err == nil {
			err = decode(w, hr, &req)
		}
		if err != nil {
			problem(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := json.NewEncoder(w)
		flush := http.NewResponseController(w)
		send := func(ev wire.RotateEvent) {
			_ = out.Encode(ev)
			_ = flush.Flush()
		}
		results, err := call(hr.Context(), req, func(s wire.RotateStep) { send(wire.RotateEvent{Step: &s}) })
		if err != nil {
			send(wire.RotateEvent{Error: err.Error()})
			return
		}
		if results == nil {
			results = []wire.RotateResult{}
		}
		send(wire.RotateEvent{Done: results})
	})
}
