package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// Replayable returns a transport for requests that may be sent twice, whatever their
// method: net/http sends them again when the server closed the connection before it
// answered, as servers do to idle ones. By itself it does so only where the method
// says that nothing is changed; some stores read by POST.
func Replayable(next http.RoundTripper) http.RoundTripper { return replayable{next} }

type replayable struct{ next http.RoundTripper }

func (t replayable) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Method != http.MethodPost {
		return t.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	again := r.Clone(r.Context())
	again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	again.Body, _ = again.GetBody()
	again.Header["Idempotency-Key"] = []string{} // understood by net/http, not sent
	return t.next.RoundTrip(again)
}
