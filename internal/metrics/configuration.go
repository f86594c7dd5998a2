package metrics

import "github.com/prometheus/client_golang/prometheus"

// Configuration adds the metric of a file that is not what holds.
func (m *Metrics) Configuration(rejected func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dso_configuration_rejected",
		Help: "1 while dso.yaml cannot be used and the last good configuration holds instead.",
	}, func() float64 {
		if rejected() {
			return 1
		}
		return 0
	}))
}
