package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are those of one agent.
type Metrics struct {
	Events  *Events
	Stale   *Stale
	Webhook *Webhook

	registry *prometheus.Registry
}

// New returns metrics in a registry of their own.
func New() *Metrics {
	r := prometheus.NewRegistry()
	return &Metrics{Events: newEvents(r), Stale: newStale(r), Webhook: newWebhook(r), registry: r}
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

// Stale is about the containers that run with values of before.
type Stale struct {
	// Since returns when each of them was first given its values. It is asked at each
	// scrape, and must be set before the first.
	Since func() []time.Time
}

func newStale(r prometheus.Registerer) *Stale {
	s := &Stale{Since: func() []time.Time { return nil }}
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dso_stale_containers",
			Help: "Containers that were started with the values they had before, because a store did not answer.",
		}, func() float64 { return float64(len(s.Since())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dso_stale_age_seconds",
			Help: "Age of the oldest set of values that a stale container has; 0 without one.",
		}, func() float64 {
			oldest := time.Duration(0)
			for _, t := range s.Since() {
				oldest = max(oldest, time.Since(t))
			}
			return oldest.Seconds()
		}))
	return s
}
