package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/secret"
)

const (
	skew = 5 * time.Minute
	good = `{"provider": "vault", "secret_name": "kv/app/db", "event_type": "rotated"}`
)

// canary is the key that reports are signed with.
var canary = secret.NewValue([]byte("hunter2-hunter2-hunter2"))

// rig is a receiver whose agent uses one secret.
type rig struct {
	*Receiver
	looked []string
	log    bytes.Buffer
	key    error
}

func newRig() *rig {
	r := &rig{}
	r.Receiver = &Receiver{
		Key:   func() (secret.Value, error) { return canary, r.key },
		Skew:  func() time.Duration { return skew },
		Known: func(name string) bool { return name == "vault" },
		Look: func(id secret.ID) bool {
			r.looked = append(r.looked, id.String())
			return id.Path == "kv/app/db"
		},
		Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: metrics.New().Webhook,
	}
	r.Begin(time.Now())
	return r
}

// report is a signed request; edit spoils it.
func report(sent time.Time, body string, edit func(*http.Request)) *http.Request {
	req := httptest.NewRequest("POST", Path, strings.NewReader(body))
	stamp := strconv.FormatInt(sent.Unix(), 10)
	req.Header.Set(HeaderTimestamp, stamp)
	req.Header.Set(HeaderSignature, Sign(canary, stamp, []byte(body)))
	if edit != nil {
		edit(req)
	}
	return req
}

func (r *rig) send(req *http.Request) (int, string) {
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// The signature can be made with any tool: printf '%s.%s' … | openssl dgst -sha256 -hmac …
func TestSign_IsTheDocumentedOne(t *testing.T) {
	got := Sign(secret.NewValue([]byte("key")), "1700000000", []byte(`{"a":1}`))
	assert.Equal(t, got, "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03")
}

func TestReceiver_TakesAGenuineReport(t *testing.T) {
	r := newRig()
	code, body := r.send(report(time.Now(), good, nil))
	assert.Equal(t, code, http.StatusAccepted, body)
	var answer Answer
	assert.NilError(t, json.Unmarshal([]byte(body), &answer))
	assert.Equal(t, answer, Answer{Secret: "vault:kv/app/db", InUse: true})
	assert.DeepEqual(t, r.looked, []string{"vault:kv/app/db"})

	code, body = r.send(report(time.Now(), `{"provider": "vault", "secret_name": "kv/other"}`, nil))
	assert.Equal(t, code, http.StatusAccepted)
	assert.Assert(t, strings.Contains(body, `"in_use":false`), body)
}

func TestReceiver_Refuses(t *testing.T) {
	header := func(key, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(key, value) }
	}
	now := time.Now()
	for name, tc := range map[string]struct {
		sent time.Time
		body string
		edit func(*http.Request)
		code int
		says string
	}{
		"no timestamp":      {now, good, func(r *http.Request) { r.Header.Del(HeaderTimestamp) }, 401, "X-DSO-Timestamp is missing"},
		"no signature":      {now, good, func(r *http.Request) { r.Header.Del(HeaderSignature) }, 401, "X-DSO-Signature is missing"},
		"another scheme":    {now, good, header(HeaderSignature, "md5=x"), 401, "does not begin with sha256="},
		"another signature": {now, good, header(HeaderSignature, "sha256=00"), 401, "does not fit"},
		"another key": {now, good, func(r *http.Request) {
			r.Header.Set(HeaderSignature, Sign(secret.NewValue([]byte("other")), r.Header.Get(HeaderTimestamp), []byte(good)))
		}, 401, "does not fit"},
		"another timestamp": {now, good, header(HeaderTimestamp, strconv.FormatInt(now.Unix()+1, 10)), 401, "does not fit"},
		"no number": {now, good, func(r *http.Request) {
			r.Header.Set(HeaderTimestamp, "today")
			r.Header.Set(HeaderSignature, Sign(canary, "today", []byte(good)))
		}, 400, "not a number of seconds"},
		"too old":              {now.Add(-skew - 2*time.Second), good, nil, 401, "off by more than 5m0s"},
		"from the future":      {now.Add(skew + 2*time.Second), good, nil, 401, "off by more than 5m0s"},
		"before the agent":     {now.Add(-2 * time.Second), good, nil, 409, "before the agent began"},
		"not JSON":             {now, "secret=x", nil, 400, "not JSON such as"},
		"another type":         {now, `{"provider": 1, "secret_name": "x"}`, nil, 400, "not JSON such as"},
		"no secret":            {now, `{"provider": "vault"}`, nil, 400, "secret_name is missing"},
		"no provider":          {now, `{"secret_name": "x"}`, nil, 400, "provider or"},
		"unknown provider":     {now, `{"provider": "file", "secret_name": "etc/shadow"}`, nil, 400, "there is no such provider"},
		"no path":              {now, `{"provider": "vault", "secret_name": "../x"}`, nil, 400, `secret_name is not the path of a reference: segment \".`},
		"a field":              {now, `{"provider": "vault", "secret_name": "kv/app/db#password"}`, nil, 400, "secret_name is not the path of a reference"},
		"too long a path":      {now, `{"provider": "vault", "secret_name": "` + strings.Repeat("x", secret.MaxRefLen+1) + `"}`, nil, 400, "it is longer than"},
		"too long":             {now, `{"provider": "` + strings.Repeat("x", maxBody) + `"}`, nil, 400, "longer than"},
		"an unsigned question": {now, `{"provider": "file", "secret_name": "x"}`, header(HeaderSignature, "sha256=00"), 401, "does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			r.Begin(now) // a slow machine is a second later here
			code, body := r.send(report(tc.sent, tc.body, tc.edit))
			assert.Equal(t, code, tc.code, body)
			assert.Assert(t, strings.Contains(body, tc.says), body)
			assert.Equal(t, len(r.looked), 0)
			assert.Assert(t, !strings.Contains(r.log.String()+body, "hunter2"))
		})
	}
	r := newRig()
	code, _ := r.send(httptest.NewRequest("GET", Path, nil))
	assert.Equal(t, code, http.StatusMethodNotAllowed)
	code, _ = r.send(httptest.NewRequest("POST", "/api/events", nil))
	assert.Equal(t, code, http.StatusNotFound)
}

func TestReceiver_AReportIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		sent := time.Now().Add(skew) // the clock of the sender is ahead
		code, _ := r.send(report(sent, good, nil))
		assert.Equal(t, code, http.StatusAccepted)
		for range 20 { // as long as the timestamp is good
			code, body := r.send(report(sent, good, func(r *http.Request) {
				r.Header.Set(HeaderSignature, "sha256="+strings.ToUpper(strings.TrimPrefix(r.Header.Get(HeaderSignature), "sha256=")))
			}))
			assert.Equal(t, code, http.StatusConflict)
			assert.Assert(t, strings.Contains(body, "sent before"))
			time.Sleep(skew / 10)
		}
		time.Sleep(time.Second)
		code, _ = r.send(report(sent, good, nil))
		assert.Equal(t, code, http.StatusUnauthorized, "it is old now")
		assert.Equal(t, len(r.looked), 1)
	})
}

func TestReceiver_RemembersNoMoreThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		take := func(i int) error {
			return r.verifier.once(time.Now(), sha256.Sum256([]byte(strconv.Itoa(i))), time.Now().Add(skew))
		}
		for i := range remembered {
			assert.NilError(t, take(i))
		}
		err := take(remembered)
		var no *refusal
		assert.Assert(t, errors.As(err, &no) && no.status == http.StatusTooManyRequests, "%v", err)
		assert.ErrorContains(t, take(0), "sent before", "and none is forgotten for it")
		time.Sleep(skew + time.Second)
		assert.NilError(t, take(remembered))
		assert.Equal(t, len(r.verifier.seen), 1, "what has expired is")
	})
}

func TestReceiver_ItsOwnTroubleIsNotTheSenders(t *testing.T) {
	r := newRig()
	r.key = errors.New("permission denied: /etc/dso/webhook")
	code, body := r.send(report(time.Now(), good, nil))
	assert.Equal(t, code, http.StatusInternalServerError)
	assert.Assert(t, !strings.Contains(body, "/etc/dso"), body)
	assert.Assert(t, strings.Contains(r.log.String(), "permission denied"))
}
