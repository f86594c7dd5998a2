package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a [Value] shows wherever it is printed.
const Redacted = "[redacted]"

// ErrMarshal is returned by every marshaller of [Value]: a value leaves the
// process only where the code says Reveal.
var ErrMarshal = errors.New("a secret value cannot be marshalled")

// Value holds the bytes of one secret. The bytes are behind a pointer because
// fmt does not call methods on unexported fields: a redacting byte slice would
// still be printed when it lies inside another struct, a pointer is not.
//
// The zero Value is empty. Values are immutable; copying one is cheap.
type Value struct {
	box *box
}

type box struct {
	b []byte
}

// NewValue takes ownership of b; the caller must not change it afterwards.
func NewValue(b []byte) Value {
	return Value{box: &box{b: b}}
}

// Reveal returns the bytes. The caller must not change them.
func (v Value) Reveal() []byte {
	if v.box == nil {
		return nil
	}
	return v.box.b
}

// Len returns the length in bytes.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal reports whether both values hold the same bytes.
func (v Value) Equal(w Value) bool { return bytes.Equal(v.Reveal(), w.Reveal()) }

// String implements [fmt.Stringer] and shows nothing.
func (v Value) String() string { return Redacted }

// GoString implements [fmt.GoStringer] and shows nothing.
func (v Value) GoString() string { return Redacted }

// Format implements [fmt.Formatter], so that no verb shows the bytes.
func (v Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Redacted) }

// LogValue implements [slog.LogValuer] and shows nothing.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON always fails with [ErrMarshal].
func (v Value) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }

// MarshalText always fails with [ErrMarshal].
func (v Value) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalYAML always fails with [ErrMarshal].
func (v Value) MarshalYAML() (any, error) { return nil, ErrMarshal }
