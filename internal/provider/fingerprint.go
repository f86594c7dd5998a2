package provider

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Fingerprint makes versions of values, for stores that have none: equal values
// have equal versions. It is keyed, because versions are shown and written where
// values are not, and a plain hash of a short password could be looked up.
type Fingerprint struct{ key []byte }

// NewFingerprint returns fingerprints under a key, which must stay the same for
// versions to stay the same.
func NewFingerprint(key []byte) Fingerprint { return Fingerprint{key} }

// Version returns the version of a value: 16 characters, 80 bits.
func (f Fingerprint) Version(value []byte) secret.Version {
	mac := hmac.New(sha256.New, f.key)
	mac.Write(value)
	return secret.Version(strings.ToLower(base32.StdEncoding.EncodeToString(mac.Sum(nil)[:10])))
}

// Check returns a value with its version, or ErrNoVersion when another one was
// asked for: such a store has only the current value.
func (f Fingerprint) Check(value []byte, want secret.Version) (secret.Value, secret.Version, error) {
	v := f.Version(value)
	if want != "" && want != v {
		return secret.Value{}, "", ErrNoVersion
	}
	return secret.NewValue(value), v, nil
}
