package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// The headers of a report.
const (
	HeaderTimestamp = "X-DSO-Timestamp" // when it was sent, in seconds since 1970
	HeaderSignature = "X-DSO-Signature" // sha256= and the HMAC in hex
)

const scheme = "sha256="

// Sign returns the signature of a report.
func Sign(key secret.Value, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key.Reveal())
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return scheme + hex.EncodeToString(mac.Sum(nil))
}

// refusal is why a report is not taken.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// remembered bounds the signatures that are remembered: 50 a second with the longest
// skew of the configuration, and no more memory than two megabytes.
const remembered = 30000

// verifier decides which reports are genuine.
type verifier struct {
	since time.Time // nothing from before is taken

	mu   sync.Mutex
	seen map[[sha256.Size]byte]time.Time // until when a signature is remembered
}

// check returns a refusal unless the report is genuine and new.
func (v *verifier) check(now time.Time, key secret.Value, skew time.Duration, h http.Header, body []byte) error {
	timestamp, signature := h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	switch {
	case timestamp == "":
		return refuse(http.StatusUnauthorized, "header %s is missing", HeaderTimestamp)
	case signature == "":
		return refuse(http.StatusUnauthorized, "header %s is missing", HeaderSignature)
	case !strings.HasPrefix(signature, scheme):
		return refuse(http.StatusUnauthorized, "header %s does not begin with %s", HeaderSignature, scheme)
	case !hmac.Equal([]byte(strings.ToLower(signature)), []byte(Sign(key, timestamp, body))):
		return refuse(http.StatusUnauthorized, "the signature does not fit: it is the HMAC-SHA256 of the timestamp, a dot and the body, with the configured secret")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return refuse(http.StatusBadRequest, "header %s is not a number of seconds since 1970", HeaderTimestamp)
	}
	sent := time.Unix(seconds, 0)
	switch off := now.Sub(sent).Abs(); {
	case off > skew:
		return refuse(http.StatusUnauthorized, "the timestamp is off by more than %s: the clocks differ, or the report is old", skew)
	case sent.Before(v.since.Truncate(time.Second)):
		return refuse(http.StatusConflict, "the report is from before the agent began; everything was looked at since")
	}
	return v.once(now, sha256.Sum256([]byte(strings.ToLower(signature))), sent.Add(skew))
}

var errFull = errors.New("too many reports at once")

// once refuses a signature that was seen before, and remembers it until then.
func (v *verifier) once(now time.Time, signature [sha256.Size]byte, until time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.seen[signature]; known {
		return refuse(http.StatusConflict, "the report was sent before")
	}
	if len(v.seen) >= remembered {
		for s, end := range v.seen {
			if now.After(end) {
				delete(v.seen, s)
			}
		}
		if len(v.seen) >= remembered {
			return refuse(http.StatusTooManyRequests, "%v: more than %d within the time in which they are remembered", errFull, remembered)
		}
	}
	if v.seen == nil {
		v.seen = map[[sha256.Size]byte]time.Time{}
	}
	v.seen[signature] = until
	return nil
}
