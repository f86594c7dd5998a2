package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are those of one agent.
type Metrics struct {
	Events    *Events
	Webhook   *Webhook
	Rotations *Rotations
	Agent     *Agent

	registry *prometheus.Registry
}

// New returns metrics in a registry of their own.
func New() *Metrics {
	r := prometheus.NewRegistry()
	return &Metrics{Events: newEvents(r), Webhook: newWebhook(r), Rotations: newRotations(r), Agent: newAgent(r), registry: r}
}

// Handler answers with the metrics as they are.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Events are the metrics of the engine's events.
type Events struct {
	Dropped prometheus.Counter
	Depth   prometheus.Gauge
}

func newEvents(r prometheus.Registerer) *Events {
	m := &Events{
		Dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dso_events_dropped_total",
			Help: "Events of the engine that found the queue full. All containers are compared afterwards, so nothing is missed.",
		}),
		Depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dso_event_queue_depth",
			Help: "Events of the engine that wait to be handled.",
		}),
	}
	r.MustRegister(m.Dropped, m.Depth)
	return m
}
