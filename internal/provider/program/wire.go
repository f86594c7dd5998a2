package program

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// Protocol is the version of the protocol.
const Protocol = 1

// maxLine bounds an answer, in bytes: the greatest value in base64, and room.
const maxLine = provider.MaxValue/3*4 + 64<<10

// Question is a line that DSO writes.
type Question struct {
	ID       int64  `json:"id"`
	Method   string `json:"method"`             // hello, version or get
	Protocol int    `json:"protocol,omitempty"` // of hello
	Provider string `json:"provider,omitempty"` // of hello
	Watch    bool   `json:"watch,omitempty"`    // of hello: DSO understands events
	Path     string `json:"path,omitempty"`
	Version  string `json:"version,omitempty"` // of get; empty: the current one
}

// Changed is the event of a program that some secret may have a new version.
const Changed = "changed"

// Answer is a line that the program writes: an answer, or an event, which has no id.
type Answer struct {
	ID       int64    `json:"id,omitempty"`
	Event    string   `json:"event,omitempty"`
	Protocol int      `json:"protocol,omitempty"` // of hello
	Version  string   `json:"version,omitempty"`
	Value    []byte   `json:"value,omitzero"` // base64; nil: none, which an empty one is not
	Error    *Problem `json:"error,omitempty"`
}

// Problem says why there is no answer.
type Problem struct {
	Code       string  `json:"code"`
	RetryAfter float64 `json:"retry_after,omitempty"` // seconds
}

// codes are the errors that a program can tell, in the order in which they are looked
// for: those that say more come first.
var codes = []struct {
	code string
	err  error
}{
	{"not_found", provider.ErrNotFound},
	{"no_version", provider.ErrNoVersion},
	{"denied", provider.ErrDenied},
	{"credential", provider.ErrCredential},
	{"too_large", provider.ErrTooLarge},
	{"permanent", fmt.Errorf("the program says that it cannot (%w)", provider.ErrPermanent)},
}

// Err returns the error of a code. One that is not known is taken as transient.
func (p *Problem) Err() error {
	for _, c := range codes {
		if c.code == p.Code {
			return c.err
		}
	}
	switch p.Code {
	case "throttled":
		return &provider.Throttled{After: time.Duration(min(max(p.RetryAfter, 0), provider.MaxRetryAfter.Seconds()) * float64(time.Second))}
	case "unavailable":
		return errors.New("the program says that its store does not answer")
	}
	return errors.New("the program answers with an unknown code")
}

// problemOf returns the code of an error, which is all that is told of it.
func problemOf(err error) *Problem {
	for _, c := range codes {
		if c.code != "permanent" && errors.Is(err, c.err) {
			return &Problem{Code: c.code}
		}
	}
	var t *provider.Throttled
	switch {
	case errors.Is(err, provider.ErrPermanent):
		return &Problem{Code: "permanent"}
	case errors.As(err, &t):
		return &Problem{Code: "throttled", RetryAfter: t.After.Seconds()}
	}
	return &Problem{Code: "unavailable"}
}

// ReadLine returns the next line, without its end.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case len(line) > maxLine:
			return nil, fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, fmt.Errorf("%w: it was cut off", provider.ErrMalformed)
		default:
			return nil, err
		}
	}
}

// Parse reads an answer or an event.
func Parse(line []byte) (Answer, error) {
	var a Answer
	if !utf8.Valid(line) || json.Unmarshal(line, &a) != nil || a.ID == 0 && a.Event == "" { // the error would quote the line
		return Answer{}, fmt.Errorf("%w: it is not a line of the protocol", provider.ErrMalformed)
	}
	return a, nil
}
