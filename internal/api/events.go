package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Source is where events come from, see [Backend].Events.
type Source func(after uint64) (events []wire.Event, newer <-chan struct{})

// events is the route that tells what happens.
func events(r router, pattern string, after Source) {
	r.handle(pattern, func(w http.ResponseWriter, hr *http.Request) {
		if _, err := r.allow(hr); err != nil {
			problem(w, err)
			return
		}
		tellEvents(w, hr, after)
	})
}

// The forms in which events are told: a line of JSON each, or what browsers follow
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
const (
	jsonLines   = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// tellEvents tells what is kept after the number that the query or, as a browser sends it
// when it comes again, the header gives, and with follow=true or as an event stream all
// that comes until the caller leaves.
func tellEvents(w http.ResponseWriter, hr *http.Request, after Source) {
	form := jsonLines
	if strings.Contains(hr.Header.Get("Accept"), eventStream) {
		form = eventStream
	}
	text := hr.URL.Query().Get("after")
	if last := hr.Header.Get("Last-Event-ID"); last != "" {
		text = last
	}
	number := uint64(0)
	if text != "" {
		var err error
		if number, err = strconv.ParseUint(text, 10, 64); err != nil {
			problem(w, &Error{Code: wire.CodeInvalid, Err: err, Hint: "after is the number of an event"})
			return
		}
	}
	follow := form == eventStream || hr.URL.Query().Get("follow") == "true"
	w.Header().Set("Content-Type", form)
	control := http.NewResponseController(w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }() // the connection may be used again
	for {
		found, newer := after(number)
		_ = control.SetWriteDeadline(time.Now().Add(restCall))
		for _, ev := range found {
			number = ev.Number
			if tellEvent(w, form, ev) != nil {
				return
			}
		}
		_ = control.Flush()
		if !follow {
			return
		}
		select {
		case <-newer:
		case <-hr.Context().Done():
			return
		}
	}
}

func tellEvent(w io.Writer, form string, ev wire.Event) error {
	if form == eventStream {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: ", ev.Number); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(w).Encode(ev); err != nil {
		return err
	}
	if form == eventStream {
		_, err := io.WriteString(w, "\n")
		return err
	}
	return nil
}
