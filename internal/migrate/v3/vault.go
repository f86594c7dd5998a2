package v3

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/crypto/argon2"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Sentinels of this package.
var (
	ErrKey    = errors.New("the vault does not open with this master key, or is damaged")
	ErrFormat = errors.New("not a vault of version 3.5")
)

// A vault file is a salt, a nonce and what AES-256-GCM made of the JSON. The key is
// Argon2id of the master key's text.
const (
	saltSize  = 16
	nonceSize = 12
	passes    = 3
	memory    = 128 << 10 // in KiB
	lanes     = 4
	keySize   = 32
)

// Secret is one of the vault, by the name that references give it.
type Secret struct {
	Name  string // project/path
	Value secret.Value
}

// Vault opens a vault file. The master key is the text that the key file holds, or
// DSO_MASTER_KEY; space around it does not belong to it.
func Vault(file []byte, master secret.Value) ([]Secret, error) {
	if len(file) < saltSize+nonceSize {
		return nil, ErrFormat
	}
	key := argon2.IDKey(bytes.TrimSpace(master.Reveal()), file[:saltSize], passes, memory, lanes, keySize)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, file[saltSize:saltSize+nonceSize], file[saltSize+nonceSize:], nil)
	if err != nil {
		return nil, ErrKey
	}
	var store struct {
		Projects map[string]map[string]struct {
			Value string `json:"value"`
		} `json:"projects"`
	}
	if json.Unmarshal(plain, &store) != nil { // its error may quote
		return nil, ErrFormat
	}
	var all []Secret
	for _, project := range slices.Sorted(maps.Keys(store.Projects)) {
		for _, path := range slices.Sorted(maps.Keys(store.Projects[project])) {
			name := project + "/" + path
			if ref, err := secret.ParseRef("dso://" + name); err != nil || ref.Field != "" {
				return nil, fmt.Errorf("the old vault has a secret called %q, which no reference can name: give it another name there, with letters, digits and `._-`", name)
			}
			all = append(all, Secret{Name: name, Value: secret.NewValue([]byte(store.Projects[project][path].Value))})
		}
	}
	return all, nil
}
