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

// start starts a server; an option -dev-tls makes it speak TLS.
func start(options ...string) (*bao, func() error, error) {
	program := os.Getenv("DSO_BAO")
	if program == "" {
		return nil, nil, errors.New("DSO_BAO does not say where bao is: run make providers")
	}
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "dso-bao-")
	if err != nil {
		return nil, nil, err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	b := &bao{addr: "http://" + listen, client: &http.Client{}}
	if slices.Contains(options, "-dev-tls") {
		b.addr = "https://" + listen
		b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the administrator of a server of our own
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, nil, err
	}
	args := append([]string{"server", "-dev", "-dev-root-token-id=" + rootToken, "-dev-no-store-token", "-dev-listen-address=" + listen}, options...)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	stop := func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return errors.Join(log.Close(), os.RemoveAll(dir))
	}
	if err := b.ready(30 * time.Second); err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, nil, errors.Join(fmt.Errorf("%w\n%s", err, text), stop())
	}
	return b, stop, nil
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

func (b *bao) ready(within time.Duration) error {
	return until(within, func() error { _, err := b.try("GET", "sys/health", nil, false); return err })
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
