package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Version is a provider's name for one state of a secret. Versions are only
// compared for equality; the local vault's happen to be "1", "2", ….
type Version string

// Versions says which version of each secret a container has or shall have.
type Versions map[ID]Version

// IDs returns the secrets in their order.
func (vs Versions) IDs() []ID {
	return slices.SortedFunc(maps.Keys(vs), ID.Compare)
}

// Clone returns an independent copy.
func (vs Versions) Clone() Versions { return maps.Clone(vs) }

// Equal reports whether both name the same versions of the same secrets.
func (vs Versions) Equal(other Versions) bool { return maps.Equal(vs, other) }

// MarshalText makes an ID usable as a JSON object key.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	provider, path, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(provider) == 0 || len(path) == 0 {
		return fmt.Errorf("%q is not provider:path", clip(string(text)))
	}
	id.Provider, id.Path = string(provider), string(path)
	return nil
}

// ErrUnfit is what the error of a value is that cannot be what its reference asks
// for: nothing but another version helps.
var ErrUnfit = errors.New("the value does not fit its reference")

type unfit struct{ error }

func (u unfit) Unwrap() error      { return u.error }
func (unfit) Is(target error) bool { return target == ErrUnfit } //nolint:errorlint // what errors.Is asks for

// Field takes one top-level member out of a value that is a JSON object. A
// string member gives its text, any other member its JSON. The empty field is
// the whole value. Its errors are [ErrUnfit].
//
// No error ever quotes the value.
func Field(v Value, field string) (Value, error) {
	if field == "" {
		return v, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(v.Reveal(), &members); err != nil {
		return Value{}, unfit{fmt.Errorf("field %q: the value is not a JSON object", field)}
	}
	raw, ok := members[field]
	if !ok {
		return Value{}, unfit{fmt.Errorf("field %q: the JSON object has no such member", field)}
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		if bytes.Equal(raw, []byte("null")) {
			return Value{}, unfit{fmt.Errorf("field %q: the member is null", field)}
		}
		return NewValue([]byte(s)), nil
	}
	return NewValue(bytes.Clone(raw)), nil
}
