package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// ErrNotSealed says that a value is not here.
var ErrNotSealed = errors.New("no sealed value")

// Store holds the sealed values of one host. It is safe for concurrent use.
type Store struct {
	dir string

	mu     sync.Mutex
	keys   map[string]key // by id
	key    key            // the one that seals
	values map[name]string
	sets   map[string]Set
}

// Set is what one container was last given.
type Set struct {
	Versions secret.Versions `json:"versions"`
	// Since is when it was given them first; a restart with the same is none.
	Since time.Time `json:"since"`
	// Before are the versions that it had before, while nobody knows yet whether it
	// works with these: it was started with them, and no rotation brought them.
	Before secret.Versions `json:"before,omitempty"`
}

// name is what a sealed value is the value of.
type name struct {
	id      secret.ID
	version secret.Version
}

// file is the content of a value's file.
type file struct {
	Secret  secret.ID      `json:"secret"`
	Version secret.Version `json:"version"`
	Key     string         `json:"key"` // its id
	Sealed  []byte         `json:"sealed"`
}

func (n name) bytes() []byte {
	return []byte("dso sealed value\x00" + n.id.String() + "\x00" + string(n.version))
}

func (n name) file() string {
	sum := sha256.Sum256(n.bytes())
	return hex.EncodeToString(sum[:16]) + ".json"
}

// Open opens the store in dir and makes it when it is new. A key that is not under
// the protection is replaced by one that is. The problems are what cannot be used: each names a file and the
// way out, and the store works without it.
func Open(ctx context.Context, dir string, by Protection) (s *Store, problems []error, err error) {
	s = &Store{dir: dir, keys: map[string]key{}, values: map[name]string{}, sets: map[string]Set{}}
	for _, d := range []string{dir, s.keyDir(), s.valueDir(), s.setDir()} {
		if err := durable.MkdirPrivate(d); err != nil {
			return nil, nil, err
		}
	}
	if err := durable.Sweep(dir); err != nil {
		return nil, nil, err
	}
	files, err := keyFiles(s.keyDir())
	if err != nil {
		return nil, nil, err
	}
	last := 0
	for _, f := range files {
		last = max(last, f.number)
		k, err := readKey(ctx, f)
		if err != nil {
			problems = append(problems, fmt.Errorf("sealing key not usable: %w; put it back from a backup, or what was sealed with it is lost", err))
			continue
		}
		s.keys[k.id] = k
		if k.number > s.key.number {
			s.key = k
		}
	}
	read, err := s.load()
	if err != nil {
		return nil, nil, err
	}
	problems = append(problems, read...)
	if s.key.number == 0 {
		return s, problems, s.use(ctx, last+1, by)
	}
	if s.key.by != by {
		if err := s.NewKey(ctx, by); err != nil {
			problems = append(problems, err)
		}
	}
	return s, problems, nil
}

// use makes the key of that number the one that seals.
func (s *Store) use(ctx context.Context, number int, by Protection) error {
	k, err := newKey(ctx, s.keyDir(), number, by)
	if err != nil {
		return err
	}
	s.keys[k.id], s.key = k, k
	return nil
}

func (s *Store) keyDir() string   { return filepath.Join(s.dir, "keys") }
func (s *Store) valueDir() string { return filepath.Join(s.dir, "values") }
func (s *Store) setDir() string   { return filepath.Join(s.dir, "sets") }

func (s *Store) setFile(container string) string {
	return filepath.Join(s.setDir(), container+".json")
}

// load reads what there is. Values under a key that is not there stay where they
// are: it may come back.
func (s *Store) load() (problems []error, err error) {
	lost := 0
	err = each(s.valueDir(), func(path, _ string, data []byte) {
		var f file
		if data == nil || json.Unmarshal(data, &f) != nil || filepath.Base(path) != (name{f.Secret, f.Version}).file() {
			problems = append(problems, fmt.Errorf("sealed value %s is damaged; it is sealed anew when it is delivered again", path))
			return
		}
		if _, ok := s.keys[f.Key]; !ok {
			lost++
			return
		}
		s.values[name{f.Secret, f.Version}] = f.Key
	})
	if err != nil {
		return nil, err
	}
	if lost > 0 {
		problems = append(problems, fmt.Errorf("%d sealed values in %s cannot be opened: their key is not in %s; put it back from a backup, or they are sealed anew as they are delivered again", lost, s.valueDir(), s.keyDir()))
	}
	err = each(s.setDir(), func(path, base string, data []byte) {
		var set Set
		if data == nil || json.Unmarshal(data, &set) != nil || len(set.Versions) == 0 {
			s.sets[base] = Set{} // so that it goes with its container
			problems = append(problems, fmt.Errorf("record of what a container was last given, %s, is damaged; it is written anew at its next start", path))
			return
		}
		s.sets[base] = set
	})
	return problems, err
}

// each reads the JSON files of a directory; base is the file's name without .json, data
// is nil when it cannot be read.
func each(dir string, do func(path, base string, data []byte)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := durable.Read(path)
		if err != nil {
			data = nil
		}
		do(path, base, data)
	}
	return nil
}

// Keep remembers that a container is given these versions, durably, before it is.
// asked says that it was to be just these: they are its own rotation's or its pin's.
// values holds the values that the caller has; those of the other versions must be
// sealed already. The container's id must be fit to be a file's name.
func (s *Store) Keep(container string, versions secret.Versions, values map[secret.ID]secret.Value, asked bool, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, version := range versions {
		n := name{id, version}
		value, given := values[id]
		if !given {
			if _, sealed := s.values[n]; !sealed {
				return fmt.Errorf("secret %s version %s: %w", id, version, ErrNotSealed)
			}
			continue
		}
		if err := s.put(n, value); err != nil {
			return err
		}
	}
	old := s.sets[container]
	if old.Versions.Equal(versions) && (!asked || old.Before == nil) {
		return nil
	}
	set := Set{Versions: versions.Clone(), Since: now.UTC()}
	if !asked && len(old.Versions) > 0 {
		if set.Before = old.Before; set.Before == nil {
			set.Before = old.Versions
		}
		if set.Before.Equal(versions) { // it has them again
			set.Before = nil
		}
	}
	return s.write(container, set)
}

func (s *Store) write(container string, set Set) error {
	data, err := json.Marshal(set)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.setFile(container), data, 0o600); err != nil {
		return err
	}
	s.sets[container] = set
	return nil
}

// Settle notes that it is known whether the container works with what it was given.
func (s *Store) Settle(container string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, ok := s.sets[container]
	if !ok || set.Before == nil {
		return nil
	}
	set.Before = nil
	return s.write(container, set)
}

func (s *Store) put(n name, value secret.Value) error {
	if s.values[n] == s.key.id {
		// A provider of that name may have become another store, whose versions have
		// the same numbers.
		if has, err := s.open(n); err == nil && bytes.Equal(has, value.Reveal()) {
			clear(has)
			return nil
		}
	}
	return s.seal(n, value.Reveal())
}

func (s *Store) seal(n name, plaintext []byte) error {
	data, err := json.Marshal(file{Secret: n.id, Version: n.version, Key: s.key.id, Sealed: s.key.Seal(nil, nil, plaintext, n.bytes())})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(s.valueDir(), n.file()), data, 0o600); err != nil {
		return err
	}
	s.values[n] = s.key.id
	return nil
}

// Has reports whether the container could be given these versions without a store, as what it
// was given last.
func (s *Store) Has(container string, versions secret.Versions) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, version := range versions {
		if _, sealed := s.values[name{id, version}]; !sealed {
			return false
		}
	}
	return s.sets[container].Versions.Equal(versions)
}

// Last returns what the container was last given.
func (s *Store) Last(container string) (Set, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.sets[container]
	return set, len(set.Versions) > 0
}

// Get returns the value of one version. The error wraps [ErrNotSealed] when it is
// not here.
func (s *Store) Get(id secret.ID, version secret.Version) (secret.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plaintext, err := s.open(name{id, version})
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewValue(plaintext), nil
}

func (s *Store) open(n name) ([]byte, error) {
	by, ok := s.values[n]
	if !ok {
		return nil, ErrNotSealed
	}
	path := filepath.Join(s.valueDir(), n.file())
	data, err := durable.Read(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSealed, err)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %s is damaged", ErrNotSealed, path)
	}
	plaintext, err := s.keys[by].Open(nil, nil, f.Sealed, n.bytes())
	if err != nil {
		return nil, fmt.Errorf("%w: %s is damaged", ErrNotSealed, path)
	}
	return plaintext, nil
}

// Forget drops the set of a container that is gone. Its values go with the next
// [Store.Retain].
func (s *Store) Forget(container string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sets[container]; !ok {
		return nil
	}
	if err := durable.Remove(s.setFile(container)); err != nil {
		return err
	}
	delete(s.sets, container)
	return nil
}

// Containers returns the ids of the containers that have a set.
func (s *Store) Containers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.sets))
}

// Retain removes the values that neither a set nor the caller names.
func (s *Store) Retain(more ...secret.Versions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[name]bool{}
	note := func(vs secret.Versions) {
		for id, v := range vs {
			used[name{id, v}] = true
		}
	}
	for _, set := range s.sets {
		note(set.Versions)
		note(set.Before)
	}
	for _, vs := range more {
		note(vs)
	}
	var errs []error
	for n := range s.values {
		if used[n] || n.note() {
			continue
		}
		if err := durable.Remove(filepath.Join(s.valueDir(), n.file())); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.values, n)
	}
	return errors.Join(errs...)
}

// NewKey makes another key under the protection, seals all values with it and
// removes the keys before. When it fails, or dies in the middle, what was sealed
// can be opened, and it can be called again.
func (s *Store) NewKey(ctx context.Context, by Protection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.use(ctx, s.key.number+1, by); err != nil {
		return err
	}
	for n, by := range s.values {
		if by == s.key.id {
			continue
		}
		plaintext, err := s.open(n)
		if err == nil {
			err = s.seal(n, plaintext)
			clear(plaintext)
		}
		if err != nil {
			return fmt.Errorf("seal %s version %s with the new key: %w; the keys before stay", n.id, n.version, err)
		}
	}
	for id, k := range s.keys {
		if id == s.key.id {
			continue
		}
		if err := durable.Remove(k.file(s.keyDir())); err != nil {
			return err
		}
		delete(s.keys, id)
	}
	return nil
}

// Info describes a store.
type Info struct {
	Protection         Protection
	Key                string // the id of the key that seals
	Containers, Values int
}

// Info describes the store as it is.
func (s *Store) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := 0
	for n := range s.values {
		if !n.note() {
			values++
		}
	}
	return Info{Protection: s.key.by, Key: s.key.id, Containers: len(s.sets), Values: values}
}

// Destroy removes all that is sealed in dir, and the keys.
func Destroy(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}
