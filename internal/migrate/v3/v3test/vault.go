// Package v3test makes vault files as version 3.5 did, for the tests of what reads them.
package v3test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"

	"golang.org/x/crypto/argon2"
)

// Vault encrypts the JSON of a vault with a master key.
func Vault(master, text string) ([]byte, error) {
	head := make([]byte, 28) // salt and nonce
	if _, err := rand.Read(head); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(argon2.IDKey([]byte(master), head[:16], 3, 128*1024, 4, 32))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return append(head, aead.Seal(nil, head[16:], []byte(text), nil)...), nil
}
