package program_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/exec"
	"github.com/docker-secret-operator/dso/internal/provider/file"
	"github.com/docker-secret-operator/dso/internal/provider/program"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// storeVariable makes this test's own binary a program that serves a directory.
const storeVariable = "DSO_TEST_STORE"

var fp = provider.NewFingerprint([]byte("key"))

func TestMain(m *testing.M) {
	if dir := os.Getenv(storeVariable); dir != "" {
		if program.Serve(context.Background(), file.New("files", dir, fp), os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// What keeps the contract keeps it through the protocol too.
func TestServe_KeepsTheContract(t *testing.T) {
	self, err := os.Executable()
	assert.NilError(t, err)
	open := func(t *testing.T) (provider.Provider, providertest.Put) {
		dir := t.TempDir()
		p, err := exec.New("own", exec.Config{
			Program: self, Timeout: 20 * time.Second,
			Env: func() ([]string, error) { return []string{storeVariable + "=" + dir, "GORACE=atexit_sleep_ms=0"}, nil },
		})
		assert.NilError(t, err)
		t.Cleanup(p.Close)
		return p, providertest.Files(t, dir, fp.Version)
	}
	providertest.RunWith(t, open, providertest.Options{NoHistory: true})
	providertest.RunWatch(t, open, providertest.Options{})
}

// failing is a store with nothing but an error.
type failing struct{ err error }

func (f failing) Version(context.Context, string) (secret.Version, error) { return "", f.err }
func (f failing) Get(context.Context, string, secret.Version) (secret.Value, secret.Version, error) {
	return secret.Value{}, "", f.err
}

func ask(t *testing.T, store provider.Provider, questions string) string {
	t.Helper()
	var out strings.Builder
	assert.NilError(t, program.Serve(t.Context(), store, strings.NewReader(questions), &out))
	return out.String()
}

// An error comes out on the other side as what it was, and without its text.
func TestServe_TellsTheCodeOfAnErrorAndNoMore(t *testing.T) {
	for _, want := range []error{
		provider.ErrNotFound, provider.ErrNoVersion, provider.ErrDenied, provider.ErrCredential, provider.ErrTooLarge, provider.ErrPermanent,
		&provider.Throttled{After: 7 * time.Second}, errors.New("x"),
	} {
		line := ask(t, failing{fmt.Errorf("%s: %w", providertest.Canary, want)}, `{"id":5,"method":"version","path":"x"}`+"\n")
		assert.Assert(t, !strings.Contains(line, providertest.Canary), line)
		a, err := program.Parse([]byte(line))
		assert.NilError(t, err)
		assert.Equal(t, a.ID, int64(5))
		got := a.Error.Err()
		assert.Equal(t, provider.Retryable(got), provider.Retryable(want), line)
		assert.Equal(t, provider.RetryAfter(got), provider.RetryAfter(want), line)
		for _, sentinel := range []error{provider.ErrNotFound, provider.ErrNoVersion, provider.ErrDenied, provider.ErrCredential, provider.ErrTooLarge} {
			assert.Equal(t, errors.Is(got, sentinel), errors.Is(want, sentinel), line)
		}
	}
}

func TestServe_SaysHelloAndRefusesWhatItDoesNotKnow(t *testing.T) {
	assert.Equal(t, ask(t, failing{}, `{"id":1,"method":"hello","protocol":9,"new":true}`+"\n"), `{"id":1,"protocol":1}`+"\n")
	assert.Equal(t, ask(t, failing{}, `{"id":1,"method":"list"}`+"\n"), `{"id":1,"error":{"code":"permanent"}}`+"\n")
	for _, line := range []string{"x\n", "{}\n", `{"id":1`} {
		assert.Assert(t, program.Serve(t.Context(), failing{}, strings.NewReader(line), io.Discard) != nil, line)
	}
}

// told is a store that tells of one change.
type told struct{ failing }

func (told) Watch(ctx context.Context) (<-chan struct{}, error) {
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	context.AfterFunc(ctx, func() { close(changed) })
	return changed, nil
}

// Only a DSO that says that it understands events gets them: one of before would take
// the line for a mistake.
func TestServe_TellsOfChangesToWhomAsksForIt(t *testing.T) {
	hello := `{"id":1,"method":"hello","protocol":1%s}` + "\n"
	assert.Equal(t, ask(t, told{}, fmt.Sprintf(hello, "")), `{"id":1,"protocol":1}`+"\n")
	in, questions := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- program.Serve(ctx, told{}, in, out) }()
	_, err := fmt.Fprintf(questions, hello, `,"watch":true`)
	assert.NilError(t, err)
	r := bufio.NewReader(answers)
	for _, want := range []string{`{"id":1,"protocol":1}`, `{"event":"changed"}`, `{"event":"changed"}`} {
		line, err := r.ReadString('\n')
		assert.NilError(t, err)
		assert.Equal(t, line, want+"\n")
	}
	assert.NilError(t, questions.Close())
	assert.NilError(t, <-done)
}

// stuck is a store that answers when its caller gives up.
type stuck struct{ failing }

func (stuck) Version(ctx context.Context, path string) (secret.Version, error) {
	if path == "quick" {
		return "1", nil
	}
	<-ctx.Done()
	return "", ctx.Err()
}

// A question is answered while another one waits, and the end of the questions ends
// everything.
func TestServe_AnswersInAnyOrder(t *testing.T) {
	in, questions := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- program.Serve(ctx, stuck{}, in, out) }()
	_, err := io.WriteString(questions, `{"id":1,"method":"version","path":"slow"}`+"\n"+`{"id":2,"method":"version","path":"quick"}`+"\n")
	assert.NilError(t, err)
	line, err := bufio.NewReader(answers).ReadString('\n')
	assert.NilError(t, err)
	assert.Equal(t, line, `{"id":2,"version":"1"}`+"\n")
	assert.NilError(t, questions.Close())
	go func() { _, _ = io.Copy(io.Discard, answers) }()
	assert.NilError(t, <-done)
}
