package seal

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// A note is something of the agent's own that must not lie on a disk in the clear. It is
// kept as a value is, of a provider that no configuration can name.
const noteProvider = "$note"

func noteName(of string) name { return name{id: secret.ID{Provider: noteProvider, Path: of}} }

func (n name) note() bool { return n.id.Provider == noteProvider }

// Note keeps data under a name, durably, in the place of what was there; no data removes it.
func (s *Store) Note(of string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := noteName(of)
	if len(data) > 0 {
		return s.put(n, secret.NewValue(data))
	}
	if err := durable.Remove(filepath.Join(s.valueDir(), n.file())); err != nil {
		return err
	}
	delete(s.values, n)
	return nil
}

// Noted returns what is kept under a name. The error wraps [ErrNotSealed] when that is
// nothing.
func (s *Store) Noted(of string) (secret.Value, error) {
	n := noteName(of)
	return s.Get(n.id, n.version)
}

// Reopen opens the store in dir under the protection that its key has. The error wraps
// [ErrNotSealed] when there is none.
func Reopen(ctx context.Context, dir string) (s *Store, problems []error, err error) {
	files, err := keyFiles(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrNotSealed, err)
	}
	var last keyFile
	for _, f := range files {
		if f.number > last.number {
			last = f
		}
	}
	if last.number == 0 {
		return nil, nil, fmt.Errorf("%w: %s has no key", ErrNotSealed, dir)
	}
	return Open(ctx, dir, last.by)
}
