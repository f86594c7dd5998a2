package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// pause serves what lasts as long as its connection: whoever asked may die.
func pause(r router, pattern string, begin func(ctx context.Context, project string) (resume func(), err error)) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		_, err := r.allow(hr)
		var req wire.PauseRequest
		if err == nil {
			err = decode(w, hr, &req)
		}
		if err == nil && req.Project == "" {
			err = &Error{Code: wire.CodeInvalid, Err: errors.New("it must be said which project")}
		}
		var resume func()
		if err == nil {
			resume, err = begin(hr.Context(), req.Project)
		}
		if err != nil {
			problem(w, err)
			return
		}
		defer resume()
		w.Header().Set("Content-Type", "application/x-ndjson")
		if json.NewEncoder(w).Encode(map[string]bool{"paused": true}) != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		<-hr.Context().Done()
	})
}
