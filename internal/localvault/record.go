package localvault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// format is the number of the file format written and understood.
const format = 1

// Bounds of the history kept in one file. The current version and the one
// before it are always kept.
const (
	keepVersions = 20
	keepBytes    = 4 * MaxValueSize
)

// record is the plaintext of one age file. Versions ascend; the last one is
// current, and when it is a deletion the secret does not exist.
type record struct {
	Format   int     `json:"format"`
	Name     string  `json:"name"`
	Versions []entry `json:"versions"`
}

// entry is one version. A deletion has a number but no value.
type entry struct {
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	Author  string    `json:"author,omitempty"`
	Deleted bool      `json:"deleted,omitempty"`
	Value   []byte    `json:"value"`
}

func (e entry) id() secret.Version { return secret.Version(strconv.Itoa(e.Version)) }

// decodeRecord parses the plaintext of the file of the named secret. It wraps
// [ErrDamaged] or [ErrNewer], and never quotes the plaintext.
func decodeRecord(name string, plaintext []byte) (*record, error) {
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(plaintext, &head) != nil {
		return nil, fmt.Errorf("%w: the content is not what DSO writes", ErrDamaged)
	}
	if head.Format > format {
		return nil, fmt.Errorf("%w (format %d, this one knows %d): upgrade DSO", ErrNewer, head.Format, format)
	}
	r := new(record)
	dec := json.NewDecoder(bytes.NewReader(plaintext))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("%w: the content is not what DSO writes", ErrDamaged)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the content", ErrDamaged)
	}
	if err := r.check(name); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *record) check(name string) error {
	if r.Format != format {
		return fmt.Errorf("%w: format %d is unknown", ErrDamaged, r.Format)
	}
	if r.Name != name {
		return fmt.Errorf("%w: the file holds another secret, it was renamed or swapped", ErrDamaged)
	}
	if len(r.Versions) == 0 {
		return fmt.Errorf("%w: it has no version", ErrDamaged)
	}
	last := 0
	for _, e := range r.Versions {
		if e.Version <= last {
			return fmt.Errorf("%w: its versions are out of order", ErrDamaged)
		}
		if e.Deleted && len(e.Value) > 0 {
			return fmt.Errorf("%w: a deleted version has a value", ErrDamaged)
		}
		last = e.Version
	}
	return nil
}

func (r *record) encode() ([]byte, error) { return json.Marshal(r) }

// current returns the current version; false when the secret does not exist.
func (r *record) current() (entry, bool) {
	if r == nil || len(r.Versions) == 0 {
		return entry{}, false
	}
	e := r.Versions[len(r.Versions)-1]
	return e, !e.Deleted
}

// find returns one version that has a value, the current one for "".
func (r *record) find(v secret.Version) (entry, error) {
	cur, ok := r.current()
	if !ok {
		return entry{}, ErrNotFound
	}
	if v == "" {
		return cur, nil
	}
	i := slices.IndexFunc(r.Versions, func(e entry) bool { return e.id() == v && !e.Deleted })
	if i < 0 {
		return entry{}, fmt.Errorf("%w: %q (kept are %s)", ErrNoVersion, v, r.kept())
	}
	return r.Versions[i], nil
}

// previous returns the version before the current one.
func (r *record) previous() (entry, error) {
	if _, ok := r.current(); !ok {
		return entry{}, ErrNotFound
	}
	if i := len(r.Versions) - 2; i >= 0 && !r.Versions[i].Deleted {
		return r.Versions[i], nil
	}
	return entry{}, fmt.Errorf("%w: there is none before the current one", ErrNoVersion)
}

// values counts the versions that have a value.
func (r *record) values() int {
	n := 0
	for _, e := range r.Versions {
		if !e.Deleted {
			n++
		}
	}
	return n
}

// kept lists the versions that have a value, for error messages.
func (r *record) kept() string {
	var b bytes.Buffer
	for _, e := range r.Versions {
		if e.Deleted {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(e.id()))
	}
	return b.String()
}

// add appends e under the next number and drops the oldest versions beyond the
// bounds of the history.
func (r *record) add(e entry) secret.Version {
	e.Version = 1
	if n := len(r.Versions); n > 0 {
		e.Version = r.Versions[n-1].Version + 1
	}
	r.Versions = append(r.Versions, e)
	total := 0
	for _, e := range r.Versions {
		total += len(e.Value)
	}
	for len(r.Versions) > 2 && (len(r.Versions) > keepVersions || total > keepBytes) {
		total -= len(r.Versions[0].Value)
		clear(r.Versions[0].Value)
		r.Versions = r.Versions[1:]
	}
	return e.id()
}

// remove records a deletion and forgets every value.
func (r *record) remove(e entry) {
	e.Version = r.Versions[len(r.Versions)-1].Version + 1
	e.Deleted, e.Value = true, nil
	r.wipe()
	r.Versions = []entry{e}
}

// wipe overwrites every value. The record is of no use afterwards.
func (r *record) wipe() {
	for i := range r.Versions {
		clear(r.Versions[i].Value)
	}
}
