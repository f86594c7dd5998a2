package exec

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// Protocol is the version of the protocol.
const Protocol = 1

// maxLine bounds an answer, in bytes: the greatest value in base64, and room.
const maxLine = provider.MaxValue/3*4 + 64<<10

// question is a line that DSO writes.
type question struct {
	ID       int64  `json:"id"`
	Method   string `json:"method"`             // hello, version or get
	Protocol int    `json:"protocol,omitempty"` // of hello
	Provider string `json:"provider,omitempty"` // of hello
	Path     string `json:"path,omitempty"`
	Version  string `json:"version,omitempty"` // of get; empty: the current one
}

// answer is a line that the program writes.
type answer struct {
	ID       int64    `json:"id"`
	Protocol int      `json:"protocol"`
	Version  string   `json:"version"`
	Value    []byte   `json:"value"` // base64
	Error    *problem `json:"error"`
}

// problem says why there is no answer.
type problem struct {
	Code       string  `json:"code"`
	RetryAfter float64 `json:"retry_after"` // seconds
}

// err is the error of a code. One that is not known is taken as transient.
func (p *problem) err() error {
	switch p.Code {
	case "not_found":
		return provider.ErrNotFound
	case "no_version":
		return provider.ErrNoVersion
	case "denied":
		return provider.ErrDenied
	case "credential":
		return provider.ErrCredential
	case "too_large":
		return provider.ErrTooLarge
	case "permanent":
		return fmt.Errorf("the program says that it cannot (%w)", provider.ErrPermanent)
	case "throttled":
		const day = 24 * 60 * 60
		return &provider.Throttled{After: time.Duration(min(max(p.RetryAfter, 0), day) * float64(time.Second))}
	case "unavailable":
		return errors.New("the program says that its store does not answer")
	}
	return errors.New("the program answers with an unknown code")
}

// readLine returns the next line, without its end.
func readLine(r *bufio.Reader) ([]byte, error) {
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

func parse(line []byte) (answer, error) {
	var a answer
	if json.Unmarshal(line, &a) != nil || a.ID == 0 { // the error would quote the line
		return answer{}, fmt.Errorf("%w: it is not a line of the protocol", provider.ErrMalformed)
	}
	return a, nil
}
