package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Path is where reports are sent to.
const Path = "/api/events/secret-update"

const maxBody = 64 << 10

// Report says that a secret may have a new version. Further members are ignored.
type Report struct {
	Provider string `json:"provider"`    // of dso.yaml
	Secret   string `json:"secret_name"` // its path, as in dso://PROVIDER/PATH
}

// Answer says what a report led to.
type Answer struct {
	Secret string `json:"secret"` // provider:path
	InUse  bool   `json:"in_use"` // it is looked at now; otherwise no container uses it
}

// Receiver takes reports. It is safe for concurrent use.
type Receiver struct {
	// Key returns the secret that reports are signed with, Skew how far their
	// timestamps may be off, now: both may change.
	Key  func() (secret.Value, error)
	Skew func() time.Duration
	// Known reports whether there is such a provider; Look looks at a secret of it
	// again, and reports whether anything uses it.
	Known   func(provider string) bool
	Look    func(id secret.ID) bool
	Log     *slog.Logger
	Metrics *metrics.Webhook

	verifier verifier
}

// Begin makes the receiver ready: what was sent before is refused.
func (r *Receiver) Begin(now time.Time) { r.verifier.since = now }

// Handler answers reports.
func (r *Receiver) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path, func(w http.ResponseWriter, hr *http.Request) {
		answer, err := r.take(w, hr)
		status, body := http.StatusAccepted, any(answer)
		if err != nil {
			status = http.StatusInternalServerError
			var no *refusal
			if errors.As(err, &no) {
				status = no.status
			}
			body = map[string]string{"error": err.Error()}
			r.Log.Debug("report of a changed secret refused", "remote", hr.RemoteAddr, "status", status, "error", err)
		}
		r.Metrics.Requests.WithLabelValues(fmt.Sprint(status)).Inc()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	})
	return mux
}

func (r *Receiver) take(w http.ResponseWriter, hr *http.Request) (Answer, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, maxBody))
	if err != nil {
		return Answer{}, refuse(http.StatusBadRequest, "the body cannot be read, or is longer than %d bytes", maxBody)
	}
	key, err := r.Key()
	if err != nil {
		r.Log.Error("secret of the webhook not read", "error", err)
		return Answer{}, errors.New("the agent cannot read its secret; its log says why")
	}
	if err := r.verifier.check(time.Now(), key, r.Skew(), hr.Header, body); err != nil {
		return Answer{}, err
	}
	var report Report
	switch err := json.Unmarshal(body, &report); {
	case err != nil:
		return Answer{}, refuse(http.StatusBadRequest, `the body is not JSON such as {"provider": "vault", "secret_name": "kv/app/db"}`)
	case report.Provider == "" || report.Secret == "":
		return Answer{}, refuse(http.StatusBadRequest, "provider or secret_name is missing")
	case !r.Known(report.Provider):
		return Answer{}, refuse(http.StatusBadRequest, "there is no such provider")
	}
	id := secret.ID{Provider: report.Provider, Path: report.Secret}
	if err := id.CheckPath(); err != nil {
		return Answer{}, refuse(http.StatusBadRequest, "secret_name is not the path of a reference: %v", err)
	}
	used := r.Look(id)
	if used {
		r.Log.Info("a secret is reported as changed", "secret", id.String(), "remote", hr.RemoteAddr)
	}
	return Answer{id.String(), used}, nil
}
