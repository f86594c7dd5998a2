package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Provider is what is known of a provider when the metrics are read.
type Provider struct {
	Name     string
	Version  uint64            // calls for a version
	Value    uint64            // calls for a value
	Answers  map[string]uint64 // calls, by how they ended
	Failures map[string]uint64 // calls that failed, by what went wrong
	Open     bool              // its circuit
	Secrets  int               // in use
	Interval time.Duration     // the longest in force; zero: there is none
	Good     time.Time         // it answered last; zero: never
}

// Watch adds the metrics of the providers, which read returns.
func (m *Metrics) Watch(read func() []Provider) { m.registry.MustRegister(&providers{read}) }

// providers reads the counts where they are kept, so that they are counted once.
type providers struct{ read func() []Provider }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"provider"}, labels...), nil)
}

var (
	requests = describe("dso_secret_requests_total", "Calls to a provider by how they ended: ok, not_found or error.", "status")
	failures = describe("dso_backend_failures_total", "Calls to a provider that failed, by what went wrong: throttled, credential, denied, too_large, malformed, timeout, permanent, canceled or unavailable.", "error_type")
	calls    = describe("dso_provider_calls_total", "Calls to a provider by what they asked for: version or value.", "call")
	open     = describe("dso_provider_circuit_open", "1 while a provider is not asked, because its calls failed.")
	inUse    = describe("dso_provider_secrets", "Secrets of a provider that containers use.")
	interval = describe("dso_provider_poll_interval_seconds", "Time between two looks at the secret that is looked at most rarely.")
	success  = describe("dso_provider_last_success_timestamp_seconds", "When a provider answered last; 0: not since the agent started.")
)

// Describe implements [prometheus.Collector].
func (p *providers) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requests, failures, calls, open, inUse, interval, success} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (p *providers) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, x float64, name string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, name)
	}
	for _, row := range p.read() {
		for status, n := range row.Answers {
			count(requests, n, row.Name, status)
		}
		for kind, n := range row.Failures {
			count(failures, n, row.Name, kind)
		}
		count(calls, row.Version, row.Name, "version")
		count(calls, row.Value, row.Name, "value")
		isOpen := 0.
		if row.Open {
			isOpen = 1
		}
		gauge(open, isOpen, row.Name)
		gauge(inUse, float64(row.Secrets), row.Name)
		if row.Interval > 0 {
			gauge(interval, row.Interval.Seconds(), row.Name)
		}
		gauge(success, max(0, float64(row.Good.UnixMilli())/1000), row.Name)
	}
}
