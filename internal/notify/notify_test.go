package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/eventlog"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/webhook"
)

// receiver is a server that remembers what it was told.
type receiver struct {
	*httptest.Server
	got chan received
}

type received struct {
	body   []byte
	header http.Header
}

func newReceiver(t *testing.T, answer func(n int) int) *receiver {
	t.Helper()
	r := &receiver{got: make(chan received, 1000)}
	var mu sync.Mutex
	n := 0
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		body, _ := io.ReadAll(hr.Body)
		mu.Lock()
		n++
		status := answer(n)
		mu.Unlock()
		if status/100 == 3 {
			w.Header().Set("Location", r.URL+"/elsewhere")
		}
		w.WriteHeader(status)
		r.got <- received{body, hr.Header}
	}))
	t.Cleanup(r.Close)
	return r
}

func value(text string) func() (secret.Value, error) {
	return func() (secret.Value, error) { return secret.NewValue([]byte(text)), nil }
}

func (r *receiver) destination(name string) Destination {
	return Destination{Name: name, URL: value(r.URL + "/hook-canary"), Format: "json", Topics: config.Topics, Timeout: 5 * time.Second, Attempts: 3}
}

func ok(int) int { return 200 }

// begin runs a notifier over a log, and returns the logger whose messages are events.
func begin(t *testing.T, to ...Destination) (*Notifier, *slog.Logger) {
	t.Helper()
	events := eventlog.New(1000)
	log := slog.New(events.Handler(slog.DiscardHandler))
	n := &Notifier{Events: events, Log: log}
	n.Use(to)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return n, log
}

func TestNotifier_TellsOfWhatWasAskedForAndSignsIt(t *testing.T) {
	r := newReceiver(t, ok)
	d := r.destination("ops")
	d.Topics = []string{"rotation_failed"}
	d.Key = value("0123456789abcdef")
	_, log := begin(t, d)
	log.Info("rotation ended", "container", "web", "outcome", "rotated")
	log.Info("some detail")
	log.Warn("rotation turns back", "container", "web", "cause", errors.New("unhealthy"))
	got := <-r.got
	var m Message
	assert.NilError(t, json.Unmarshal(got.body, &m))
	assert.Equal(t, m.Event, "rotation_failed")
	assert.Equal(t, m.Level, "warn")
	assert.Equal(t, m.Message, "rotation turns back")
	assert.Equal(t, m.Fields["cause"], "unhealthy")
	timestamp := got.header.Get(webhook.HeaderTimestamp)
	assert.Equal(t, got.header.Get(webhook.HeaderSignature), webhook.Sign(secret.NewValue([]byte("0123456789abcdef")), timestamp, got.body))
	assert.Equal(t, len(r.got), 0)
}

func TestNotifier_OneThatDoesNotAnswerDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer stuck.Close()
	defer close(release)
	good := newReceiver(t, ok)
	slow := good.destination("slow")
	slow.URL, slow.Timeout = value(stuck.URL), time.Minute
	_, log := begin(t, slow, good.destination("good"))
	for i := range 3 * waiting {
		log.Error("something", "n", i)
		<-good.got
	}
}

func TestNotifier_WhatIsDroppedIsCountedAndTold(t *testing.T) {
	q := &queue{messages: make(chan Message, 2)}
	for range 5 {
		q.put(Message{})
	}
	assert.Equal(t, q.missed(), 3)
	assert.Equal(t, q.missed(), 0)
}

func TestNotifier_AnotherConfigurationTakesTheirPlace(t *testing.T) {
	one, two := newReceiver(t, ok), newReceiver(t, ok)
	n, log := begin(t, one.destination("one"))
	log.Error("first")
	<-one.got
	n.Use([]Destination{two.destination("two")})
	log.Error("second")
	assert.Assert(t, strings.Contains(string((<-two.got).body), "second"))
	assert.Equal(t, len(one.got), 0)
}

// What cannot be delivered is told to nobody, and shows no address.
func TestNotifier_AFailureIsNoEventForOthers(t *testing.T) {
	bad, good := newReceiver(t, func(int) int { return 404 }), newReceiver(t, ok)
	n, log := begin(t, bad.destination("bad"), good.destination("good"))
	log.Error("something")
	<-bad.got
	<-good.got
	for done := false; !done; {
		events, newer := n.Events.After(1)
		for _, e := range events {
			done = done || e.Message == "notification not delivered"
			assert.Assert(t, !strings.Contains(fmt.Sprint(e), "canary"), "%v", e)
		}
		if !done {
			<-newer
		}
	}
	log.Error("another")
	assert.Assert(t, strings.Contains(string((<-good.got).body), "another"))
}

func TestDeliver_TriesAgainWithGrowingPausesAndNotForEver(t *testing.T) {
	for name, tc := range map[string]struct {
		answer   func(n int) int
		attempts int
		pauses   time.Duration
		fails    bool
	}{
		"at once":            {ok, 1, 0, false},
		"the third":          {func(n int) int { return map[bool]int{true: 200, false: 503}[n > 2] }, 3, 3 * time.Second, false},
		"never":              {func(int) int { return 500 }, 5, 15 * time.Second, true},
		"not allowed":        {func(int) int { return 403 }, 1, 0, true},
		"too many":           {func(n int) int { return map[bool]int{true: 200, false: 429}[n > 1] }, 2, time.Second, false},
		"elsewhere: refused": {func(int) int { return 302 }, 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				before := client.Transport
				client.Transport = roundTrip(func(hr *http.Request) (*http.Response, error) {
					attempts++
					return &http.Response{StatusCode: tc.answer(attempts), Header: http.Header{}, Body: http.NoBody, Request: hr}, nil
				})
				defer func() { client.Transport = before }()
				d := Destination{Name: "x", URL: value("https://x/"), Timeout: time.Second, Attempts: 5}
				began := time.Now()
				err := d.deliver(t.Context(), Message{})
				assert.Equal(t, err != nil, tc.fails, "%v", err)
				assert.Equal(t, attempts, tc.attempts)
				assert.Equal(t, time.Since(began), tc.pauses)
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSlack_EscapesWhatItQuotes(t *testing.T) {
	d := Destination{Format: "slack"}
	body, err := d.body(Message{Level: "error", Host: "h", Message: "<!channel> & co", Fields: map[string]any{"container": "<web>"}, Dropped: 2})
	assert.NilError(t, err)
	var got struct{ Text string }
	assert.NilError(t, json.Unmarshal(body, &got))
	assert.Equal(t, got.Text, "*error* h: &lt;!channel&gt; &amp; co\n• container: &lt;web&gt;\n(2 messages before this one were dropped)")
	d.Template = "{{.Event}} {{.Fields.container}} {{.Fields.nothing}}"
	body, err = d.body(Message{Event: "stale", Fields: map[string]any{"container": "web"}})
	assert.NilError(t, err)
	assert.NilError(t, json.Unmarshal(body, &got))
	assert.Equal(t, got.Text, "stale web <no value>")
	d.Template = `{{range $i := 1000000}}xxxxxxxxxx{{end}}`
	_, err = d.body(Message{})
	assert.ErrorContains(t, err, "longer than")
}

func TestTest_TriesOnceAndShowsNoAddress(t *testing.T) {
	r := newReceiver(t, func(int) int { return 500 })
	gone := r.destination("gone")
	gone.URL = value("http://127.0.0.1:1/canary")
	n := &Notifier{Events: eventlog.New(1), Log: slog.New(slog.DiscardHandler)}
	n.Use([]Destination{r.destination("a"), gone})
	results, err := n.Test(t.Context(), "")
	assert.NilError(t, err)
	assert.Equal(t, len(results), 2)
	assert.Equal(t, results[0].Status, 500)
	assert.Assert(t, results[1].Err != nil && !strings.Contains(results[1].Err.Error(), "canary"), "%v", results[1].Err)
	assert.Equal(t, len(r.got), 1)
	_, err = n.Test(t.Context(), "nobody")
	assert.ErrorIs(t, err, ErrNoDestination)
}

func TestDestination_WhoWantsErrorsIsToldOfAll(t *testing.T) {
	bad := eventlog.Event{Level: slog.LevelError, Message: "configuration not taken, the last good one stays"}
	fine := eventlog.Event{Level: slog.LevelInfo, Message: "configuration taken"}
	errs, conf := Destination{Topics: []string{"error"}}, Destination{Topics: []string{"configuration"}}
	assert.Assert(t, errs.wants(topicOf(bad), bad) && !errs.wants(topicOf(fine), fine))
	assert.Assert(t, conf.wants(topicOf(bad), bad) && conf.wants(topicOf(fine), fine))
	own := eventlog.Event{Level: slog.LevelError, Message: "notification not delivered"}
	assert.Assert(t, !errs.wants(topicOf(own), own))
}

// Each message that is told of is one that the program still logs.
func TestTopics_AreMessagesOfTheProgram(t *testing.T) {
	var source strings.Builder
	assert.NilError(t, filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../notify/") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	}))
	for message, topic := range topics {
		assert.Check(t, strings.Contains(source.String(), `"`+message+`"`), message)
		assert.Check(t, contains(config.Topics, topic), topic)
	}
}

func contains(all []string, one string) bool {
	for _, a := range all {
		if a == one {
			return true
		}
	}
	return false
}

// The page shows the body as it is sent.
func TestMessage_IsWhatThePageShows(t *testing.T) {
	m := Message{
		SchemaVersion: 1, Event: "rotation_failed", Level: "info", Time: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Host: "host-1", Message: "rotation ended", Number: 42,
		Fields: map[string]any{"container": "shop-web-1", "outcome": "rolled_back"}, Dropped: 3,
	}
	want, err := json.MarshalIndent(m, "", "  ")
	assert.NilError(t, err)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "configuration.md"))
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(page), "```json\n"+string(want)+"\n```"), "configuration.md does not show\n%s", want)
}
