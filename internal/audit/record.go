package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What is something that happened to a secret.
type What string

// What is recorded.
const (
	Read     What = "read"     // somebody was shown the value
	Set      What = "set"      // somebody stored a version
	Rollback What = "rollback" // somebody made an older value current
	Delete   What = "delete"   // somebody deleted the secret
	Ask      What = "ask"      // somebody asked for a rotation
	Deliver  What = "deliver"  // a container was given the version
	Rotate   What = "rotate"   // a rotation to the version ended
	Refuse   What = "refuse"   // somebody, or a container, was refused
	Cut      What = "cut"      // the line before was cut off by a crash, and is removed
	Broken   What = "broken"   // the file before cannot be continued
)

// Whats lists them all.
var Whats = []What{Read, Set, Rollback, Delete, Ask, Deliver, Rotate, Refuse, Cut, Broken}

// Record is one line. It has no value in it, and no place for one.
type Record struct {
	Seq  uint64    `json:"seq"` // from 1, without a gap
	Time time.Time `json:"time"`
	What What      `json:"what"`
	Who  Who       `json:"who"`
	// Secret is provider:path; empty for what concerns none.
	Secret    string `json:"secret,omitempty"`
	Version   string `json:"version,omitempty"`
	Container string `json:"container,omitempty"` // its name
	ID        string `json:"container_id,omitempty"`
	Why       string `json:"why,omitempty"`
	Outcome   string `json:"outcome,omitempty"`
	Prev      string `json:"prev"` // the hash of the line before; empty: there was none
}

// Who did it, as the kernel says.
type Who struct {
	Agent bool   `json:"agent,omitempty"` // the agent by itself, or for a container that starts
	UID   uint32 `json:"uid"`
	PID   int32  `json:"pid,omitempty"`
	User  string `json:"user,omitempty"`
}

// ByAgent is the agent itself.
var ByAgent = Who{Agent: true}

// maxLine bounds a line, in bytes. What is longer was not written here.
const maxLine = 64 << 10

// maxText bounds the texts of a record, in bytes: the reason of a refusal may quote.
const maxText = 2000

const hashKey = `,"hash":"`

// suffix is how many bytes of a line are not hashed: ,"hash":"…"}.
const suffix = len(hashKey) + 2*sha256.Size + len(`"}`)

// encode returns the record's line, without a newline, and its hash.
func encode(r Record) (line []byte, hash string, err error) {
	for _, text := range []*string{&r.Why, &r.Secret, &r.Container, &r.Outcome, &r.Version} {
		if len(*text) > maxText {
			*text = (*text)[:maxText]
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("encode audit record: %w", err)
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	return append(append(body[:len(body)-1], hashKey...), hash+`"}`...), hash, nil
}

// ErrLine is wrapped by every reason why a line was not written by this package.
var ErrLine = errors.New("not a line of the audit log")

// parse reads a line, without its newline, and returns its hash too.
func parse(line []byte) (r Record, hash string, err error) {
	if len(line) <= suffix || len(line) > maxLine {
		return r, "", fmt.Errorf("%w: it has %d bytes", ErrLine, len(line))
	}
	body, tail := line[:len(line)-suffix], line[len(line)-suffix:]
	if !bytes.HasPrefix(tail, []byte(hashKey)) || !bytes.HasSuffix(tail, []byte(`"}`)) {
		return r, "", fmt.Errorf("%w: it has no hash", ErrLine)
	}
	hash = string(tail[len(hashKey) : len(tail)-len(`"}`)])
	sum := sha256.New()
	sum.Write(body)
	sum.Write([]byte("}"))
	if want := hex.EncodeToString(sum.Sum(nil)); want != hash {
		return r, "", fmt.Errorf("%w: its hash is not that of its content", ErrLine)
	}
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &r); err != nil {
		return r, "", fmt.Errorf("%w: %w", ErrLine, err)
	}
	return r, hash, nil
}
