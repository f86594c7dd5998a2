package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/file"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// store is a directory of files that sops has encrypted. The keys are found as sops
// finds them: SOPS_AGE_KEY_FILE and the like.
//
// A version is made of what stands in the file in the clear, so that comparing opens
// nothing: the time of the change and the encrypted MAC. Both are new with every edit;
// `sops updatekeys` changes neither, nor the values.
type store struct{ dir string }

// Version implements provider.Provider.
func (s *store) Version(ctx context.Context, name string) (secret.Version, error) {
	tree, _, err := s.load(ctx, name)
	if err != nil {
		return "", err
	}
	return versionOf(tree), nil
}

// Get implements provider.Provider. The version and the value are of one file, read once.
func (s *store) Get(ctx context.Context, name string, want secret.Version) (secret.Value, secret.Version, error) {
	tree, emit, err := s.load(ctx, name)
	if err != nil {
		return secret.Value{}, "", err
	}
	v := versionOf(tree)
	if want != "" && want != v {
		return secret.Value{}, "", provider.ErrNoVersion
	}
	if err := open(&tree); err != nil {
		return secret.Value{}, "", err
	}
	value, err := emit(tree.Branches)
	return secret.NewValue(value), v, err
}

// Watch implements provider.Watcher.
func (s *store) Watch(ctx context.Context) (<-chan struct{}, error) { return file.Watch(ctx, s.dir) }

func versionOf(t sops.Tree) secret.Version {
	sum := sha256.Sum256([]byte(t.Metadata.LastModified.UTC().Format(time.RFC3339) + t.Metadata.MessageAuthenticationCode))
	return secret.Version(fmt.Sprintf("%x", sum[:8]))
}

// emitter makes the value of an opened file.
type emitter func(sops.TreeBranches) ([]byte, error)

// format returns how a file of that name is read. What sops does not know by its name
// is a binary file to sops.
func format(name string, c *config.StoresConfig) (sops.EncryptedFileLoader, emitter) {
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return yaml.NewStore(&c.YAML), document
	case ".json":
		return sopsjson.NewStore(&c.JSON), document
	case ".env":
		return dotenv.NewStore(&c.Dotenv), document
	case ".ini":
		return ini.NewStore(&c.INI), document
	}
	binary := sopsjson.NewBinaryStore(&c.JSONBinary)
	return binary, func(b sops.TreeBranches) ([]byte, error) {
		value, err := binary.EmitPlainFile(b)
		if err != nil { // it may quote the value
			return nil, fmt.Errorf("%w: it holds no binary value", provider.ErrMalformed)
		}
		return value, nil
	}
}

// document returns a whole document as JSON in one form.
func document(branches sops.TreeBranches) ([]byte, error) {
	if len(branches) != 1 {
		return nil, fmt.Errorf("the file has %d documents, and must have one (%w)", len(branches), provider.ErrPermanent)
	}
	text, err := sopsjson.NewStore(&config.JSONStoreConfig{}).EmitPlainFile(branches)
	var b bytes.Buffer
	if err != nil || json.Compact(&b, text) != nil { // the error may quote the value
		return nil, fmt.Errorf("the document cannot be JSON (%w)", provider.ErrPermanent)
	}
	return b.Bytes(), nil
}

func (s *store) load(ctx context.Context, name string) (sops.Tree, emitter, error) {
	text, err := file.Read(ctx, s.dir, name)
	if err != nil {
		return sops.Tree{}, nil, err
	}
	loader, emit := format(name, config.NewStoresConfig())
	tree, err := loader.LoadEncryptedFile(text)
	switch {
	case errors.Is(err, sops.MetadataNotFound):
		return sops.Tree{}, nil, fmt.Errorf("sops has not encrypted the file (%w)", provider.ErrPermanent)
	case err != nil || tree.Metadata.MessageAuthenticationCode == "":
		return sops.Tree{}, nil, fmt.Errorf("%w: it is not a file of sops", provider.ErrMalformed)
	}
	return tree, emit, nil
}

// open decrypts a tree in place. A file whose MAC is not that of its values was changed
// by somebody else than sops.
func open(tree *sops.Tree) error {
	key, err := tree.Metadata.GetDataKey()
	if err != nil {
		return fmt.Errorf("%w: no key at hand opens the file", provider.ErrCredential)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Decrypt(key, cipher)
	if err != nil {
		return fmt.Errorf("it cannot be decrypted (%w)", provider.ErrPermanent)
	}
	stored, err := cipher.Decrypt(tree.Metadata.MessageAuthenticationCode, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil || stored != mac {
		return fmt.Errorf("its MAC is not that of its values (%w)", provider.ErrPermanent)
	}
	return nil
}
