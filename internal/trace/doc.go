// Package trace turns the steps of rotations into OpenTelemetry spans, in a build with the
// tag otel. In the default build it does nothing, and nothing of OpenTelemetry's is linked
// for it.
//
// Invariants:
//   - A rotation is one trace, also when the agent that ends it is not the one that began
//     it: the trace's id comes from the rotation's.
//   - A span holds what the log holds: names, versions' outcomes and causes, never a value.
//   - A collector that is away, slow or wrong delays no step and fails none.
//
// Where the spans go is said by the variables that OpenTelemetry defines for every program
// (OTEL_EXPORTER_OTLP_ENDPOINT and others,
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/); without an endpoint there
// are none.
package trace

import "os"

// endpoint reports whether the environment says where spans go.
func endpoint() bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}
