//go:build otel

package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// Tracer makes a span of each rotation, with a span of each step in it. Its methods may be
// called from several goroutines.
type Tracer struct {
	provider *sdktrace.TracerProvider // nil: there is no endpoint
	tracer   trace.Tracer

	mu   sync.Mutex
	open map[string]*spans // by rotation
}

// spans are those of a rotation that goes on.
type spans struct {
	ctx  context.Context // of the rotation's
	all  trace.Span
	step trace.Span // nil before the first
}

// Open makes a tracer that sends to where the environment says. That nobody answers there, or
// that the environment is wrong, keeps no agent from its work: it is logged.
func Open(ctx context.Context, version string, log *slog.Logger) *Tracer {
	if !endpoint() {
		return &Tracer{}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Warn("no traces", "error", err)
		return &Tracer{}
	}
	// What the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) comes last, and wins.
	about, err := resource.New(ctx, resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "dso-agent"), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil { // what could be understood is in it
		log.Warn("traces say less of this agent than they could", "error", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces not sent", "error", err) }))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithIDGenerator(ids{}))
	return &Tracer{provider: p, tracer: p.Tracer("github.com/docker-secret-operator/dso"), open: map[string]*spans{}}
}

// Observe is told of every step of a rotation as it begins, and of the end.
func (t *Tracer) Observe(p rotation.Progress) {
	if t.provider == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[p.RotationID]
	if s == nil {
		s = t.begin(p)
		t.open[p.RotationID] = s
	}
	at := trace.WithTimestamp(p.Time)
	if s.step != nil {
		s.step.End(at)
		s.step = nil
	}
	if p.Outcome == "" {
		_, s.step = t.tracer.Start(s.ctx, string(p.Step), at, trace.WithAttributes(attribute.String("dso.phase", string(p.Phase))))
		return
	}
	s.all.SetAttributes(attribute.String("dso.outcome", string(p.Outcome)))
	if p.Outcome != rotation.OutcomeRotated && p.Outcome != rotation.OutcomeAdopted {
		s.all.SetStatus(codes.Error, p.Detail)
	}
	s.all.End(at)
	delete(t.open, p.RotationID)
}

// begin begins the span of a rotation, or of what is left of it.
func (t *Tracer) begin(p rotation.Progress) *spans {
	var secrets []string
	for _, id := range p.Secrets {
		secrets = append(secrets, id.String())
	}
	ctx, span := t.tracer.Start(of(p.RotationID), "rotation", trace.WithTimestamp(p.Time), trace.WithNewRoot(), trace.WithAttributes(
		attribute.String("dso.rotation", p.RotationID), attribute.String("container.name", p.Container),
		attribute.String("dso.strategy", string(p.Strategy)), attribute.StringSlice("dso.secrets", secrets)))
	return &spans{ctx: ctx, all: span}
}

// Close ends the spans of what is parked, for the next agent to carry on, and sends what was
// not sent yet.
func (t *Tracer) Close(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	t.mu.Lock()
	for _, s := range t.open {
		if s.step != nil {
			s.step.End()
		}
		s.all.SetAttributes(attribute.String("dso.outcome", "parked"))
		s.all.End()
	}
	clear(t.open)
	t.mu.Unlock()
	return t.provider.Shutdown(ctx)
}

// ids gives what belongs to one rotation one trace.
type ids struct{}

type rotationKey struct{}

// of carries a rotation's id to where its trace gets one.
func of(rotationID string) context.Context {
	return context.WithValue(context.Background(), rotationKey{}, rotationID)
}

func (ids) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	if rotationID, ok := ctx.Value(rotationKey{}).(string); ok {
		sum := sha256.Sum256([]byte(rotationID))
		copy(id[:], sum[:])
	} else {
		_, _ = rand.Read(id[:])
	}
	return id, ids{}.NewSpanID(ctx, id)
}

func (ids) NewSpanID(context.Context, trace.TraceID) (span trace.SpanID) {
	_, _ = rand.Read(span[:])
	return span
}
