package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stale adds the metrics of the containers that run with values of before. read returns
// when each of them was first given its values.
func (m *Metrics) Stale(read func() []time.Time) { m.registry.MustRegister(&stale{read}) }

// stale reads once for both of its metrics: it is a look at every container.
type stale struct{ read func() []time.Time }

var (
	staleContainers = prometheus.NewDesc("dso_stale_containers", "Containers that were started with the values they had before, because a store did not answer.", nil, nil)
	staleAge        = prometheus.NewDesc("dso_stale_age_seconds", "Age of the oldest set of values that a stale container has; 0 without one.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (s *stale) Describe(ch chan<- *prometheus.Desc) {
	ch <- staleContainers
	ch <- staleAge
}

// Collect implements [prometheus.Collector].
func (s *stale) Collect(ch chan<- prometheus.Metric) {
	since := s.read()
	oldest := time.Duration(0)
	for _, t := range since {
		oldest = max(oldest, time.Since(t))
	}
	ch <- prometheus.MustNewConstMetric(staleContainers, prometheus.GaugeValue, float64(len(since)))
	ch <- prometheus.MustNewConstMetric(staleAge, prometheus.GaugeValue, oldest.Seconds())
}
