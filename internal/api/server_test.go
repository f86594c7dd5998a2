package api_test

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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// callEnv makes the test binary a caller: it does every call of the API on that
// socket and prints what came of each.
const callEnv = "DSO_TEST_CALL"

// nobody is a user who is neither root nor the agent's own.
const nobody = 65534

func TestMain(m *testing.M) {
	if socket := os.Getenv(callEnv); socket != "" {
		out, _ := json.Marshal(callAll(context.Background(), socket))
		fmt.Println(string(out))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// routes are all calls of the API.
var routes = []string{
	"POST /v1/vault", "PUT /v1/secret", "POST /v1/secret/get", "GET /v1/secrets", "POST /v1/secret/delete", "POST /v1/secret/history",
	"POST /v1/secret/rollback", "GET /v1/status", "GET /v1/rotations", "POST /v1/fronts/image", "POST /v1/rotate",
	"POST /v1/recover", "POST /v1/recover/mark", "GET /v1/locks", "GET /v1/alive", "GET /v1/legacy", "POST /v1/legacy", "GET /v1/events", "GET /metrics",
	"POST /v1/container", "POST /v1/secret/users", "POST /v1/notifications/test", "POST /v1/secret/fetch",
}

// callAll returns the code of the problem that each route answers; "" is none.
func callAll(ctx context.Context, socket string) map[string]string {
	c := client.New(socket)
	got := map[string]string{}
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		var err error
		switch path {
		case "/v1/rotate":
			_, err = c.Rotate(ctx, wire.RotateRequest{Secret: "app/db"}, func(wire.RotateStep) {})
		case "/v1/events":
			err = c.Events(ctx, 0, false, func(wire.Event) {})
		case "/v1/recover":
			_, err = c.Recover(ctx, wire.RecoverRequest{}, func(wire.RotateStep) {})
		default:
			err = c.Call(ctx, method, path, struct{}{}, nil)
		}
		got[route] = code(err)
	}
	return got
}

func code(err error) string {
	var remote *client.RemoteError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &remote):
		return remote.Code
	}
	return err.Error()
}

// backend answers everything and remembers who set a secret.
type backend struct {
	mu     sync.Mutex
	set    []api.Caller
	values int // how often a value was read
	fail   error
	denied []string
	status wire.Status
	events []wire.Event
	newer  chan struct{}
}

func (b *backend) Init(context.Context) (wire.VaultInfo, error) { return wire.VaultInfo{}, b.fail }

func (b *backend) Set(_ context.Context, who api.Caller, _ wire.SetRequest) (wire.VersionResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set = append(b.set, who)
	return wire.VersionResponse{Version: "2", Changed: true}, b.fail
}

func (b *backend) Get(context.Context, wire.NameRequest) (wire.ValueResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values++
	return wire.ValueResponse{Value: []byte("hunter2")}, b.fail
}

func (b *backend) List(context.Context) ([]wire.SecretInfo, error) {
	return []wire.SecretInfo{{Name: "app/db"}}, b.fail
}
func (b *backend) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "dso_things_total 3") })
}

func (b *backend) Delete(context.Context, wire.NameRequest) error { return b.fail }
func (b *backend) History(context.Context, wire.NameRequest) ([]wire.SecretVersion, error) {
	return nil, b.fail
}

func (b *backend) Rollback(context.Context, api.Caller, wire.NameRequest) (wire.VersionResponse, error) {
	return wire.VersionResponse{}, b.fail
}

func (b *backend) Rotate(_ context.Context, _ wire.RotateRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	tell(wire.RotateStep{Step: "gate"})
	tell(wire.RotateStep{Step: "park"})
	return nil, b.fail
}
func (b *backend) Status(context.Context) (wire.Status, error) { return b.status, b.fail }
func (b *backend) Container(context.Context, wire.ContainerRequest) (wire.ContainerDetail, error) {
	return wire.ContainerDetail{}, b.fail
}
func (b *backend) Pin(context.Context, api.Caller, wire.ContainerRequest) (wire.PinResponse, error) {
	return wire.PinResponse{}, b.fail
}
func (b *backend) Unpin(context.Context, api.Caller, wire.ContainerRequest) (wire.PinResponse, error) {
	return wire.PinResponse{}, b.fail
}
func (b *backend) SecretUsers(context.Context, wire.NameRequest) (wire.SecretUsers, error) {
	return wire.SecretUsers{}, b.fail
}
func (b *backend) TestNotifications(context.Context, wire.NotifyRequest) ([]wire.NotifyResult, error) {
	return []wire.NotifyResult{}, b.fail
}
func (b *backend) Fetch(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	return b.Get(ctx, req)
}
func (b *backend) Denied(who api.Caller, call string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied = append(b.denied, fmt.Sprint(who.UID, " ", call))
}
func (b *backend) Rotations(context.Context) ([]wire.Rotation, error) {
	return []wire.Rotation{}, b.fail
}

func (b *backend) Recover(_ context.Context, _ wire.RecoverRequest, tell func(wire.RotateStep)) ([]wire.RotateResult, error) {
	tell(wire.RotateStep{Step: "stop"})
	return nil, b.fail
}

func (b *backend) MarkRecovered(context.Context, wire.RecoverRequest) (wire.Rotation, error) {
	return wire.Rotation{}, b.fail
}
func (b *backend) Alive() {}

func (b *backend) Locks(context.Context) ([]wire.Lock, error) { return []wire.Lock{}, b.fail }
func (b *backend) Pause(context.Context, string) (func(), error) {
	return func() { b.happens("resumed") }, b.fail
}
func (b *backend) Check(context.Context, wire.CheckRequest) ([]wire.CheckResult, error) {
	return []wire.CheckResult{}, b.fail
}
func (*backend) ConfigVersions(context.Context) ([]wire.ConfigVersion, error) { return nil, nil }

func (*backend) ConfigVersion(_ context.Context, r wire.ConfigVersion) (wire.ConfigVersion, error) {
	return r, nil
}

func (b *backend) Seal(context.Context) (wire.Seal, error)       { return wire.Seal{}, b.fail }
func (b *backend) NewSealKey(context.Context) (wire.Seal, error) { return wire.Seal{}, b.fail }
func (b *backend) Events(after uint64) ([]wire.Event, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.newer == nil {
		b.newer = make(chan struct{})
	}
	return b.events[min(int(after), len(b.events)):], b.newer //nolint:gosec // a handful
}

func (b *backend) happens(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, wire.Event{Number: uint64(len(b.events) + 1), Message: what})
	if b.newer != nil {
		close(b.newer)
	}
	b.newer = make(chan struct{})
}

func (b *backend) Legacy(context.Context) ([]wire.Leftover, error) {
	return []wire.Leftover{}, b.fail
}
func (b *backend) Adopt(context.Context, wire.AdoptRequest) ([]wire.Leftover, error) {
	return []wire.Leftover{}, b.fail
}
func (b *backend) FrontImage(context.Context, wire.FrontRequest) (wire.FrontImage, error) {
	return wire.FrontImage{}, b.fail
}

// serve serves the backend on a socket that everybody may open.
func serve(t *testing.T, b api.Backend) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dso-api-")
	assert.NilError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	assert.NilError(t, os.Chmod(dir, 0o755))
	socket = filepath.Join(dir, "dso.sock")
	l, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	assert.NilError(t, os.Chmod(socket, 0o666))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, b, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		assert.NilError(t, <-served)
	})
	return socket
}

// callAs does every call as another user.
func callAs(t *testing.T, uid uint32, socket string) map[string]string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can become another user: run the tests as root")
	}
	data, err := os.ReadFile(os.Args[0]) // the user may not enter where it lies
	assert.NilError(t, err)
	binary := filepath.Join(filepath.Dir(socket), "caller")
	assert.NilError(t, os.WriteFile(binary, data, 0o755))
	cmd := exec.Command(binary)
	cmd.Env = []string{callEnv + "=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	assert.NilError(t, err)
	var got map[string]string
	assert.NilError(t, json.Unmarshal(out, &got))
	return got
}

func TestServe_RootMayDoEverything(t *testing.T) {
	b := &backend{}
	for route, problem := range callAll(t.Context(), serve(t, b)) {
		assert.Equal(t, problem, "", route)
	}
	assert.Equal(t, b.values, 2)
}

func TestServe_OthersMayChangeButNotRead(t *testing.T) {
	b := &backend{}
	for route, problem := range callAs(t, nobody, serve(t, b)) {
		want := ""
		if route == "POST /v1/secret/get" || route == "POST /v1/secret/fetch" || route == "POST /v1/vault" || route == "POST /v1/recover/mark" || route == "POST /v1/legacy" {
			want = wire.CodeDenied
		}
		assert.Equal(t, problem, want, route)
	}
	assert.Equal(t, b.values, 0)
	slices.Sort(b.denied)
	assert.DeepEqual(t, b.denied, []string{"65534 POST /v1/legacy", "65534 POST /v1/recover/mark", "65534 POST /v1/secret/fetch", "65534 POST /v1/secret/get", "65534 POST /v1/vault"})
	assert.Equal(t, len(b.set), 1)
	assert.Equal(t, b.set[0].UID, uint32(nobody), "the kernel says who it was")
}

func TestServe_CallerThatTheKernelDoesNotKnowIsDenied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // has no peer credentials
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	b := &backend{}
	go func() { served <- api.Serve(ctx, l, b, slog.New(slog.DiscardHandler)) }()
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, strings.NewReader("{}"))
		assert.NilError(t, err)
		resp, err := http.DefaultClient.Do(req)
		assert.NilError(t, err)
		assert.NilError(t, resp.Body.Close())
		assert.Equal(t, resp.StatusCode, http.StatusForbidden, route)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	assert.NilError(t, <-served)
	assert.Equal(t, len(b.set)+b.values, 0)
}

func TestServe_ProblemKeepsItsCodeAndHint(t *testing.T) {
	b := &backend{fail: &api.Error{Code: wire.CodeNotFound, Err: errors.New("no such secret"), Hint: "docker dso secret list"}}
	socket := serve(t, b)
	err := client.New(socket).Call(t.Context(), http.MethodGet, "/v1/secrets", nil, nil)
	var remote *client.RemoteError
	assert.Assert(t, errors.As(err, &remote), "%v", err)
	assert.DeepEqual(t, remote.Problem, wire.Problem{Error: "no such secret", Hint: "docker dso secret list", Code: wire.CodeNotFound})
}

func TestServe_MetricsAreInPrometheusOwnFormat(t *testing.T) {
	socket := serve(t, &backend{})
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	resp, err := c.Get("http://dso/metrics")
	assert.NilError(t, err)
	text, err := io.ReadAll(resp.Body)
	assert.NilError(t, errors.Join(err, resp.Body.Close()))
	assert.Equal(t, resp.StatusCode, http.StatusOK)
	assert.Equal(t, string(text), "dso_things_total 3\n")
	c.CloseIdleConnections()
}

func TestServe_EventsAreToldAsTheyHappen(t *testing.T) {
	b := &backend{}
	b.happens("agent started")
	c := client.New(serve(t, b))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan wire.Event)
	ended := make(chan error)
	go func() { ended <- c.Events(ctx, 0, true, func(ev wire.Event) { told <- ev }) }()
	assert.Equal(t, (<-told).Message, "agent started")
	b.happens("state file was unreadable")
	assert.DeepEqual(t, <-told, wire.Event{Number: 2, Message: "state file was unreadable"})
	cancel()
	assert.NilError(t, <-ended)

	var again []wire.Event
	assert.NilError(t, c.Events(t.Context(), 1, false, func(ev wire.Event) { again = append(again, ev) }))
	assert.Equal(t, len(again), 1)
}

func TestServe_RequestThatIsNotUnderstoodIsInvalid(t *testing.T) {
	socket := serve(t, &backend{})
	for _, body := range []any{map[string]string{"nome": "app/db"}, []int{1}, "text"} {
		err := client.New(socket).Call(t.Context(), http.MethodPut, "/v1/secret", body, nil)
		assert.Equal(t, code(err), wire.CodeInvalid)
	}
}

func TestServe_RotateTellsStepsThenTheEnd(t *testing.T) {
	b := &backend{}
	socket := serve(t, b)
	var steps []string
	tell := func(s wire.RotateStep) { steps = append(steps, s.Step) }
	results, err := client.New(socket).Rotate(t.Context(), wire.RotateRequest{}, tell)
	assert.NilError(t, err)
	assert.DeepEqual(t, steps, []string{"gate", "park"})
	assert.Equal(t, len(results), 0)

	b.fail = errors.New("the engine is away")
	_, err = client.New(socket).Rotate(t.Context(), wire.RotateRequest{}, tell)
	assert.ErrorContains(t, err, "the engine is away")
}

func TestClient_SaysWhyItCannotCall(t *testing.T) {
	dir := t.TempDir()
	err := client.New(filepath.Join(dir, "none.sock")).Call(t.Context(), http.MethodGet, "/v1/status", nil, nil)
	assert.ErrorIs(t, err, client.ErrNoAgent)

	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	assert.NilError(t, err)
	l.SetUnlinkOnClose(false)
	assert.NilError(t, l.Close())
	err = client.New(dead).Call(t.Context(), http.MethodGet, "/v1/status", nil, nil)
	assert.ErrorIs(t, err, client.ErrNoAgent)
}
