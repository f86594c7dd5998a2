package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Agent are the metrics of what the agent answers and writes down.
type Agent struct {
	Starts        *prometheus.CounterVec // by result: delivered, stale or refused
	Notifications *prometheus.CounterVec // by destination and result
	AuditRecords  prometheus.Counter
	AuditFailures prometheus.Counter
	info          *prometheus.GaugeVec
	began         prometheus.Gauge
}

func newAgent(r prometheus.Registerer) *Agent {
	m := &Agent{
		Starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dso_starts_total", Help: "Starts of containers that asked for secrets, by result: delivered, stale (with the values of before) or refused.",
		}, []string{"result"}),
		Notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dso_notifications_total", Help: "Messages to a destination, by result: sent, failed or dropped.",
		}, []string{"destination", "result"}),
		AuditRecords:  prometheus.NewCounter(prometheus.CounterOpts{Name: "dso_audit_records_total", Help: "Records written to the audit log."}),
		AuditFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "dso_audit_failures_total", Help: "Records that could not be written to the audit log."}),
		info:          prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dso_agent_info", Help: "1, with the agent's version."}, []string{"version"}),
		began:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "dso_agent_start_time_seconds", Help: "When the agent started."}),
	}
	r.MustRegister(m.Starts, m.Notifications, m.AuditRecords, m.AuditFailures, m.info, m.began)
	for _, result := range []string{"delivered", "stale", "refused"} {
		m.Starts.WithLabelValues(result) // one that begins at 1 has not increased, for an alert
	}
	return m
}

// Destination makes the counters of a destination for messages.
func (m *Agent) Destination(name string) {
	for _, result := range []string{"sent", "failed", "dropped"} {
		m.Notifications.WithLabelValues(name, result)
	}
}

// Began says which agent it is, and since when.
func (m *Agent) Began(version string, at time.Time) {
	m.info.WithLabelValues(version).Set(1)
	m.began.Set(float64(at.UnixMilli()) / 1000)
}

// Start counts a start by its result.
func (m *Agent) Start(result string) { m.Starts.WithLabelValues(result).Inc() }

// Notification counts a message by what became of it.
func (m *Agent) Notification(destination, result string) {
	m.Notifications.WithLabelValues(destination, result).Inc()
}
