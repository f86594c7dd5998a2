package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Result is what a run saw. Times are milliseconds; those called At are since
// Start.
type Result struct {
	Start    time.Time `json:"start"`
	Seconds  float64   `json:"seconds"`
	Requests int       `json:"requests"`
	Failed   int       `json:"failed"`
	// Failures counts the failed by cause: refused, reset, closed, timeout,
	// unreachable, resolve, status_503 and the like, other.
	Failures map[string]int `json:"failures"`
	// Errors are the first failures, at most 20.
	Errors []Failure `json:"errors,omitempty"`
	// WrongVersion counts good answers that were older than the floor, or no
	// marker, in requests that were started after it was set.
	WrongVersion int `json:"wrong_version"`
	// Answers is the timeline of distinct bodies, by first appearance.
	Answers []Answer `json:"answers"`
	P50MS   float64  `json:"p50_ms"`
	P99MS   float64  `json:"p99_ms"`
	MaxMS   float64  `json:"max_ms"`
	// GapMS is the longest time between two good answers.
	GapMS float64 `json:"gap_ms"`
	// LateMS is the longest delay of a request by this process itself.
	LateMS float64 `json:"late_ms"`
}

// Answer is one distinct body among the good answers.
type Answer struct {
	Body    string  `json:"body"`
	Count   int     `json:"count"`
	FirstAt float64 `json:"first_at_ms"`
	LastAt  float64 `json:"last_at_ms"`
}

// Failure is one failed request.
type Failure struct {
	StartedAt float64 `json:"started_at_ms"`
	TookMS    float64 `json:"took_ms"`
	Cause     string  `json:"cause"`
	Error     string  `json:"error"`
}

// Answer returns the timeline's entry for a body, nil when it was never seen.
func (r *Result) Answer(body string) *Answer {
	for i := range r.Answers {
		if r.Answers[i].Body == body {
			return &r.Answers[i]
		}
	}
	return nil
}

// ReadFile reads the result that the load program wrote.
func ReadFile(path string) (*Result, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read load result: %w", err)
	}
	var r Result
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("read load result %s: %w", path, err)
	}
	return &r, nil
}

type sample struct {
	started time.Time
	took    time.Duration
	body    string
	err     error
	wrong   bool
}

// record gathers samples of concurrent requests.
type record struct {
	mu       sync.Mutex
	start    time.Time
	lastGood time.Time
	gap      time.Duration
	maxLate  time.Duration
	took     []time.Duration
	r        Result
}

const maxErrors = 20

func newRecord() *record {
	now := time.Now()
	return &record{start: now, lastGood: now, r: Result{Start: now, Failures: map[string]int{}}}
}

func (rec *record) late(d time.Duration) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.maxLate = max(rec.maxLate, d)
}

func (rec *record) add(s sample) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Requests++
	if s.err != nil {
		rec.addFailure(s)
		return
	}
	if s.wrong {
		rec.r.WrongVersion++
	}
	rec.took = append(rec.took, s.took)
	end := s.started.Add(s.took)
	if end.After(rec.lastGood) {
		rec.gap = max(rec.gap, end.Sub(rec.lastGood))
		rec.lastGood = end
	}
	at := ms(end.Sub(rec.start))
	a := rec.r.Answer(s.body)
	if a == nil {
		rec.r.Answers = append(rec.r.Answers, Answer{Body: s.body, FirstAt: at})
		a = &rec.r.Answers[len(rec.r.Answers)-1]
	}
	a.Count++
	a.FirstAt, a.LastAt = min(a.FirstAt, at), max(a.LastAt, at)
}

func (rec *record) addFailure(s sample) {
	c := cause(s.err)
	rec.r.Failed++
	rec.r.Failures[c]++
	if len(rec.r.Errors) < maxErrors {
		rec.r.Errors = append(rec.r.Errors, Failure{
			StartedAt: ms(s.started.Sub(rec.start)), TookMS: ms(s.took), Cause: c, Error: s.err.Error(),
		})
	}
}

func (rec *record) result() *Result {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	r := rec.r
	end := time.Now()
	r.Seconds = end.Sub(rec.start).Seconds()
	// An outage that lasts to the end is a gap too.
	r.GapMS = ms(max(rec.gap, end.Sub(rec.lastGood)))
	r.LateMS = ms(rec.maxLate)
	slices.Sort(rec.took)
	if n := len(rec.took); n > 0 {
		r.P50MS, r.P99MS, r.MaxMS = ms(rec.took[n/2]), ms(rec.took[n*99/100]), ms(rec.took[n-1])
	}
	return &r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// cause sorts an error into the few kinds that tell what happened on the wire.
func cause(err error) string {
	var status statusError
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("status_%d", int(status))
	case errors.As(err, &dns):
		return "resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed idle connection"):
		return "closed"
	default:
		return "other"
	}
}
