package metrics

import "github.com/prometheus/client_golang/prometheus"

// Webhook is about the reports of changed secrets that come from outside.
type Webhook struct {
	Requests *prometheus.CounterVec // by status
}

func newWebhook(r prometheus.Registerer) *Webhook {
	m := &Webhook{Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dso_webhook_requests_total",
		Help: "Reports of changed secrets by the HTTP status that answered them: 202 is one that was taken.",
	}, []string{"status"})}
	r.MustRegister(m.Requests)
	return m
}
