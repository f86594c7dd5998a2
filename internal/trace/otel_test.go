//go:build otel

package trace

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/rotation"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// collected is what a collector was sent.
type collected struct {
	mu    sync.Mutex
	spans []*v1.Span
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if err = errors.Join(err, proto.Unmarshal(body, &req)); err != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// receive sets a collector up, which the environment names.
func receive(t *testing.T) *collected {
	t.Helper()
	c := &collected{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	return c
}

func open(t *testing.T) *Tracer {
	t.Helper()
	return Open(t.Context(), "4.0.0", slog.New(slog.DiscardHandler))
}

var began = time.Unix(1_700_000_000, 0)

// step is the progress at so many seconds.
func step(second int, s rotation.Step, phase rotation.Phase, outcome rotation.Outcome) rotation.Progress {
	return rotation.Progress{
		RotationID: "0123-1", Container: "web", Secrets: []secret.ID{{Provider: "local", Path: "app/db"}}, Strategy: rotation.Rolling,
		Step: s, Phase: phase, Outcome: outcome, Detail: "the new version is unhealthy", Time: began.Add(time.Duration(second) * time.Second),
	}
}

func attributes(s *v1.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

func TestTracer_ARotationIsATraceOfItsSteps(t *testing.T) {
	c := receive(t)
	tracer := open(t)
	tracer.Observe(step(0, rotation.StepStart, rotation.Forward, ""))
	tracer.Observe(step(1, rotation.StepGate, rotation.Forward, ""))
	tracer.Observe(step(4, rotation.StepRemoveReplacement, rotation.Back, ""))
	tracer.Observe(step(5, "", rotation.Back, rotation.OutcomeRolledBack))
	assert.NilError(t, tracer.Close(t.Context()))

	assert.Equal(t, len(c.spans), 4)
	whole := c.spans[3]
	assert.Equal(t, whole.Name, "rotation")
	assert.Equal(t, attributes(whole)["container.name"], "web")
	assert.Equal(t, attributes(whole)["dso.outcome"], "rolled_back")
	assert.Equal(t, whole.Status.Code, v1.Status_STATUS_CODE_ERROR)
	assert.Equal(t, whole.EndTimeUnixNano-whole.StartTimeUnixNano, uint64(5*time.Second))
	for i, want := range []struct {
		name    string
		seconds int
	}{{string(rotation.StepStart), 1}, {string(rotation.StepGate), 3}, {string(rotation.StepRemoveReplacement), 1}} {
		s := c.spans[i]
		assert.Equal(t, s.Name, want.name)
		assert.DeepEqual(t, s.ParentSpanId, whole.SpanId)
		assert.Equal(t, s.EndTimeUnixNano-s.StartTimeUnixNano, uint64(time.Duration(want.seconds)*time.Second))
	}
}

func TestTracer_TheNextAgentGoesOnInTheSameTrace(t *testing.T) {
	c := receive(t)
	first := open(t)
	first.Observe(step(0, rotation.StepStart, rotation.Forward, ""))
	assert.NilError(t, first.Close(t.Context()))
	next := open(t)
	next.Observe(step(9, rotation.StepGate, rotation.Forward, ""))
	next.Observe(step(10, "", rotation.Forward, rotation.OutcomeRotated))
	assert.NilError(t, next.Close(t.Context()))

	assert.Equal(t, len(c.spans), 4)
	for _, s := range c.spans {
		assert.DeepEqual(t, s.TraceId, c.spans[0].TraceId)
	}
	assert.Equal(t, attributes(c.spans[1])["dso.outcome"], "parked")
	assert.Equal(t, attributes(c.spans[3])["dso.outcome"], "rotated")
}

func TestTracer_ACollectorThatDoesNotAnswerDelaysNothing(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	tracer := open(t)
	tracer.Observe(step(0, rotation.StepStart, rotation.Forward, ""))
	tracer.Observe(step(1, "", rotation.Forward, rotation.OutcomeRotated))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, tracer.Close(ctx), context.DeadlineExceeded)
}

func TestTracer_AWrongEnvironmentKeepsNoAgentFromItsWork(t *testing.T) {
	c := receive(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no pair")
	tracer := open(t)
	tracer.Observe(step(0, rotation.StepStart, rotation.Forward, ""))
	assert.NilError(t, tracer.Close(t.Context()))
	assert.Equal(t, len(c.spans), 2)
}

func TestTracer_WithoutAnEndpointThereIsNone(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	tracer := open(t)
	assert.Assert(t, tracer.provider == nil)
	tracer.Observe(step(0, rotation.StepStart, rotation.Forward, ""))
	assert.NilError(t, tracer.Close(t.Context()))
}
