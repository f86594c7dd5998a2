package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Rotations are the metrics of rotations that ended.
type Rotations struct {
	ended    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	recovery *prometheus.HistogramVec
}

// buckets reach from a restart in place to a health gate and a drain at their limits.
var buckets = []float64{0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600}

func newRotations(r prometheus.Registerer) *Rotations {
	m := &Rotations{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dso_rotations_total",
			Help: "Rotations that ended, by strategy and outcome: rotated is the good one.",
		}, []string{"strategy", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dso_rotation_duration_seconds", Help: "How long rotations took that one agent carried from their beginning to their end.", Buckets: buckets,
		}, []string{"strategy"}),
		recovery: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dso_recovery_duration_seconds", Help: "How long rotations took that another agent had begun, from its beginning to their end, by outcome.", Buckets: buckets,
		}, []string{"outcome"}),
	}
	r.MustRegister(m.ended, m.duration, m.recovery)
	return m
}

// May makes the counters of an outcome that rotations may have: one that begins at 1 has not increased,
// for an alert.
func (m *Rotations) May(strategies []string, outcome string) {
	for _, s := range strategies {
		m.ended.WithLabelValues(s, outcome)
	}
}

// End counts a rotation that ended. recovered says that another agent had begun it.
func (m *Rotations) End(strategy, outcome string, took time.Duration, recovered bool) {
	m.ended.WithLabelValues(strategy, outcome).Inc()
	if recovered {
		m.recovery.WithLabelValues(outcome).Observe(took.Seconds())
		return
	}
	m.duration.WithLabelValues(strategy).Observe(took.Seconds())
}

// Open is what is not over at the moment of a scrape.
type Open struct {
	Pending, NeedPerson int
	Oldest              time.Time // zero: there is none
	Pinned              int       // containers that did not work with the current versions
}

// Open adds the metrics of what is not over.
func (m *Metrics) Open(read func() Open) { m.registry.MustRegister(&opened{read}) }

type opened struct{ read func() Open }

var (
	pendingDesc = prometheus.NewDesc("dso_rotations_pending", "Rotations that are going on.", nil, nil)
	personDesc  = prometheus.NewDesc("dso_rotations_need_person", "Rotations that do not go on by themselves.", nil, nil)
	oldestDesc  = prometheus.NewDesc("dso_rotation_oldest_pending_seconds", "Age of the oldest rotation that is not over; 0 without one.", nil, nil)
	pinnedDesc  = prometheus.NewDesc("dso_containers_pinned", "Containers that keep older versions, because they did not work with the current ones.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (o *opened) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pendingDesc, personDesc, oldestDesc, pinnedDesc} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (o *opened) Collect(ch chan<- prometheus.Metric) {
	now := o.read()
	gauge := func(d *prometheus.Desc, x float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x) }
	gauge(pendingDesc, float64(now.Pending))
	gauge(personDesc, float64(now.NeedPerson))
	gauge(pinnedDesc, float64(now.Pinned))
	age := 0.
	if !now.Oldest.IsZero() {
		age = time.Since(now.Oldest).Seconds()
	}
	gauge(oldestDesc, age)
}
