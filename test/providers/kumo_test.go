package providers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
)

// kumo is an emulator of AWS, in memory, on loopback.
type kumo struct {
	addr   string
	client *http.Client
}

var sharedKumo struct {
	once sync.Once
	kumo *kumo
	stop func() error
	err  error
}

// emulator returns the emulator that all tests share.
func emulator(t *testing.T) *kumo {
	t.Helper()
	sharedKumo.once.Do(func() { sharedKumo.kumo, sharedKumo.stop, sharedKumo.err = startKumo() })
	if sharedKumo.err != nil {
		t.Fatal(sharedKumo.err)
	}
	return sharedKumo.kumo
}

func startKumo() (*kumo, func() error, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	k := &kumo{addr: fmt.Sprintf("http://127.0.0.1:%d", port), client: &http.Client{}}
	stop, err := program{
		variable: "DSO_KUMO",
		env:      []string{"KUMO_HOST=127.0.0.1", fmt.Sprintf("KUMO_PORT=%d", port)},
		ready:    func() error { _, err := k.try("AmazonSSM.DescribeParameters", o{}); return err },
	}.start()
	return k, stop, err
}

// try makes a request without the SDK. The emulator does not check the signature.
func (k *kumo) try(target string, body o) (o, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, k.addr+"/", strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	out := o{}
	if err := json.Unmarshal(answer, &out); err != nil || resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s: %s: %s", target, resp.Status, answer)
	}
	return out, nil
}

func (k *kumo) do(t *testing.T, target string, body o) o {
	t.Helper()
	out, err := k.try(target, body)
	assert.NilError(t, err)
	return out
}
