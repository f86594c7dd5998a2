package api

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// events is the route that tells what happens: what is kept after the number that
// the query gives and, with follow=true, all that comes until the caller leaves.
func events(r router, pattern string, after func(uint64) ([]wire.Event, <-chan struct{})) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		_, err := r.allow(hr)
		number := uint64(0)
		if text := hr.URL.Query().Get("after"); err == nil && text != "" {
			if number, err = strconv.ParseUint(text, 10, 64); err != nil {
				err = &Error{Code: wire.CodeInvalid, Err: err, Hint: "after is the number of an event"}
			}
		}
		if err != nil {
			problem(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out, flush := json.NewEncoder(w), http.NewResponseController(w)
		for {
			found, newer := after(number)
			for _, ev := range found {
				number = ev.Number
				if out.Encode(ev) != nil {
					return
				}
			}
			_ = flush.Flush()
			if hr.URL.Query().Get("follow") != "true" {
				return
			}
			select {
			case <-newer:
			case <-hr.Context().Done():
				return
			}
		}
	})
}
