package providers

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

const rootToken = "root"

// bao is a real OpenBao in development mode: unsealed, in memory, on loopback.
type bao struct {
	addr   string // with the scheme
	client *http.Client
	next   atomic.Int64
}

var shared struct {
	once sync.Once
	bao  *bao
	stop func() error
	err  error
}

// server returns the server that all tests share.
func server(t *testing.T) *bao {
	t.Helper()
	shared.once.Do(func() { shared.bao, shared.stop, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.bao
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range []func() error{shared.stop, sharedKumo.stop} {
		if stop == nil {
			continue
		}
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// program is a server of a test: on loopback, with a directory of its own.
type program struct {
	variable  string // that says where the program is
	args, env []string
	ready     func() error
}

// start starts the server and waits until it is ready.
func (p program) start() (stop func() error, err error) {
	path := os.Getenv(p.variable)
	if path == "" {
		return nil, fmt.Errorf("%s does not say where the server is: run make providers", p.variable)
	}
	dir, err := os.MkdirTemp("", "dso-server-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append([]string{"HOME=" + dir}, p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	stop = func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return errors.Join(log.Close(), os.RemoveAll(dir))
	}
	if err := until(30*time.Second, p.ready); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), stop())
	}
	return stop, nil
}

// start starts a server; an option -dev-tls makes it speak TLS.
func start(options ...string) (*bao, func() error, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	b := &bao{addr: "http://" + listen, client: &http.Client{}}
	if slices.Contains(options, "-dev-tls") {
		b.addr = "https://" + listen
		b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the administrator of a server of our own
	}
	stop, err := program{
		variable: "DSO_BAO",
		args:     append([]string{"server", "-dev", "-dev-root-token-id=" + rootToken, "-dev-no-store-token", "-dev-listen-address=" + listen}, options...),
		env:      []string{"PATH=" + os.Getenv("PATH")},
		ready:    func() error { _, err := b.try("GET", "sys/health", nil, false); return err },
	}.start()
	return b, stop, err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// until polls, because a server's start has no event.
func until(within time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// try makes a request as the administrator of the server, without our client. With
// wrap the answer comes as a wrapping token.
func (b *bao) try(method, path string, body any, wrap bool) (o, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, b.addr+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", rootToken)
	if wrap {
		req.Header.Set("X-Vault-Wrap-TTL", "60s")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	out := o{}
	if len(answer) > 0 {
		err = json.Unmarshal(answer, &out)
	}
	return out, err
}

func (b *bao) wrapped(t *testing.T, path string, body o) string {
	t.Helper()
	out, err := b.try("POST", path, body, true)
	assert.NilError(t, err)
	return at(out, "wrap_info", "token").(string)
}

func (b *bao) do(t *testing.T, method, path string, body any) o {
	t.Helper()
	out, err := b.try(method, path, body, false)
	assert.NilError(t, err)
	return out
}

// at follows keys into an answer.
func at(m o, keys ...string) any {
	var x any = m
	for _, k := range keys {
		m, _ := x.(o)
		x = m[k]
	}
	return x
}

type o = map[string]any

// mount makes an empty KV engine of a version and returns its path.
func (b *bao) mount(t *testing.T, version string) string {
	t.Helper()
	name := fmt.Sprintf("kv%s-%d", version, b.next.Add(1))
	b.do(t, "POST", "sys/mounts/"+name, o{"type": "kv", "options": o{"version": version}})
	if version == "2" { // an engine of version 2 takes a moment
		assert.NilError(t, until(10*time.Second, func() error {
			_, err := b.try("GET", name+"/config", nil, false)
			return err
		}))
	}
	return name
}

// policy makes a policy that lets read everything below a mount.
func (b *bao) policy(t *testing.T, mount string) string {
	t.Helper()
	b.do(t, "PUT", "sys/policies/acl/"+mount, o{"policy": fmt.Sprintf(`path "%s/*" { capabilities = ["read"] }`, mount)})
	return mount
}

func (b *bao) token(t *testing.T, params o) string {
	t.Helper()
	return at(b.do(t, "POST", "auth/token/create", params), "auth", "client_token").(string)
}
