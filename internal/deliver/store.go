package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/private"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/seal"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
)

// Resolver takes snapshots of the providers' values.
type Resolver interface {
	Snapshot(ctx context.Context, project string, vars []resolve.Variable, want, last secret.Versions) (resolve.Snapshot, error)
	IDs(project string, refs []secret.Ref) []secret.ID
}

// Sealed keeps what containers are given, at rest, for when its store cannot give it
// again.
type Sealed interface {
	Keep(containerID string, versions secret.Versions, values map[secret.ID]secret.Value, asked bool, now time.Time) error
	Settle(containerID string) error
	Has(containerID string, versions secret.Versions) bool
	Last(containerID string) (seal.Set, bool)
	Containers() []string
	Forget(containerID string) error
	Retain(more ...secret.Versions) error
}

// Store delivers values to containers and remembers what it delivered. It is
// safe for concurrent use.
type Store struct {
	root     string
	pins     *pins
	resolver Resolver
	sealed   Sealed
	strict   func() bool
	log      *slog.Logger

	mu     sync.Mutex       // held while a container's files and record change
	unread map[string]error // by container: why the values of its last start could not be read
}

// record is what a container was given at its last start.
type record struct {
	Request  wire.DeliverRequest `json:"request"`
	Versions secret.Versions     `json:"versions"`
	Time     time.Time           `json:"time"`
	Stale    *Stale              `json:"stale,omitempty"`
}

// Stale says that a container has the versions that it had before, because a store
// did not tell the current ones.
type Stale struct {
	// Since is when the container was first given these versions.
	Since time.Time `json:"since"`
	Cause string    `json:"cause"`
}

// Config says where a [Store] keeps things, and what it works with.
type Config struct {
	Root     string // the private root; see [private.Mount]
	Pins     string // the durable file of the pins
	Resolver Resolver
	Sealed   Sealed // nil: nothing is sealed
	// Strict reports whether a container may read only the secrets of its own project
	// and those that a target gives it; nil: it may read what it names.
	Strict func() bool
	Log    *slog.Logger
}

// Open opens the store. With a [*durable.CorruptError], which is about the pins, it is
// usable.
func Open(c Config) (*Store, error) {
	p, err := openPins(c.Pins, time.Now())
	var corrupt *durable.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	for _, dir := range private.Dirs(c.Root) {
		if mkErr := os.MkdirAll(dir, 0o700); mkErr != nil {
			return nil, fmt.Errorf("open deliveries: %w", mkErr)
		}
	}
	if c.Sealed == nil {
		c.Sealed = unsealed{}
	}
	return &Store{root: c.Root, pins: p, resolver: c.Resolver, sealed: c.Sealed, strict: c.Strict, log: c.Log, unread: map[string]error{}}, err
}

// Deliver answers dso-runtime: it resolves the references (pinned versions
// first), writes the container's files and records the versions. An exec gets
// the versions that the container was started with.
func (s *Store) Deliver(ctx context.Context, req wire.DeliverRequest) (wire.DeliverResponse, error) {
	if err := checkID(req.ContainerID); err != nil {
		return wire.DeliverResponse{}, err
	}
	if !req.Exec {
		s.noteRead(req.ContainerID, nil) // what the start before came to says nothing of this one
	}
	vars, err := parse(req.References)
	if err != nil {
		return wire.DeliverResponse{}, err
	}
	want, err := s.wanted(&req)
	if err != nil {
		return wire.DeliverResponse{}, err
	}
	last, _ := s.sealed.Last(req.ContainerID)
	snap, err := s.read(ctx, req, vars, want, last.Versions)
	if !req.Exec && errors.Is(err, provider.ErrNoVersion) {
		snap, err = s.instead(ctx, req, vars, last.Versions, err)
	}
	if !req.Exec {
		s.noteRead(req.ContainerID, err)
	}
	if err != nil {
		return wire.DeliverResponse{}, err
	}
	files, err := filesFor(req, vars, snap)
	if err != nil {
		return wire.DeliverResponse{}, err
	}
	resp := wire.DeliverResponse{Env: map[string][]byte{}, Mounts: map[string]string{}}
	for _, v := range vars {
		if v.Ref.Kind == secret.KindFile {
			if req.Exec {
				// dso-runtime knows every file that the container was started with.
				return wire.DeliverResponse{}, fmt.Errorf("cannot resolve %s for %s: the container was not started with this file, and an exec cannot add one", v.Ref, v.Name)
			}
			resp.Env[v.Name] = []byte(FilePath(v.Ref))
			resp.FilesDir = private.Files(s.root, req.ContainerID)
			if v.Ref.Fixed() {
				resp.Mounts[v.Ref.File.Path] = filepath.Join(resp.FilesDir, dataLink, fileName(v.Ref))
			}
			continue
		}
		value := snap.Values[v.Name].Reveal()
		if why := unfitForEnv(v.Name, value); why != "" {
			return wire.DeliverResponse{}, fmt.Errorf("cannot deliver %s for %s: %s; use dsofile://", v.Ref, v.Name, why)
		}
		resp.Env[v.Name] = value
	}
	if req.Exec {
		return resp, nil
	}
	if err := s.keepEnv(req.ContainerID, req.References, resp.Env); err != nil {
		return wire.DeliverResponse{}, err
	}
	var stale *Stale
	if snap.Stale != nil {
		stale = &Stale{Since: last.Since, Cause: snap.Stale.Error()}
		s.log.Warn("container starts with the values it had before: the current ones cannot be read",
			"container", req.ContainerID, "name", req.Name, "since", last.Since, "error", snap.Stale)
	}
	if err := s.keep(req, files, snap.Versions, snap, stale); err != nil {
		return wire.DeliverResponse{}, err
	}
	return resp, nil
}

// read returns the values, where the rules allow them.
func (s *Store) read(ctx context.Context, req wire.DeliverRequest, vars []resolve.Variable, want, last secret.Versions) (resolve.Snapshot, error) {
	if err := s.refused(req, vars); err != nil {
		return resolve.Snapshot{}, err
	}
	return s.resolver.Snapshot(ctx, req.Project, vars, want, last)
}

// instead returns the current values for a container whose versions nobody has any more: the
// store made them for an agent that took them along, or has dropped them, and nothing sealed them.
// It would never start again. They are all current, or it is the error that there was.
func (s *Store) instead(ctx context.Context, req wire.DeliverRequest, vars []resolve.Variable, last secret.Versions, gone error) (resolve.Snapshot, error) {
	pin, _ := s.pins.get(req.ContainerID)
	if !pin.yields(nil) {
		return resolve.Snapshot{}, gone
	}
	snap, err := s.resolver.Snapshot(ctx, req.Project, vars, nil, last)
	if err != nil || !pin.yields(snap.Versions) {
		return resolve.Snapshot{}, gone
	}
	s.log.Warn("container gets the current values: nobody has those any more that it was to keep",
		"container", req.ContainerID, "name", req.Name, "error", gone)
	return snap, nil
}

// noteRead keeps what came of reading the values of a start.
func (s *Store) noteRead(containerID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || errors.Is(err, secret.ErrUnfit) {
		delete(s.unread, containerID)
		return
	}
	s.unread[containerID] = err
}

// Unread returns why the values of the container's last start could not, or may not, be read.
// It is nil when they were, fit for their references or not; when they were not asked for; and of starts
// that another process of the agent answered.
func (s *Store) Unread(containerID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unread[containerID]
}

// keepEnv leaves the values where dso-runtime finds them at an exec.
func (s *Store) keepEnv(containerID string, refs []wire.Reference, env map[string][]byte) error {
	started := wire.Started{Values: map[string][]byte{}}
	for _, r := range refs {
		started.Values[r.Ref] = env[r.Variable]
		if r.Given {
			started.Given = append(started.Given, r)
		}
	}
	data, err := json.Marshal(started)
	if err != nil {
		return fmt.Errorf("encode environment: %w", err)
	}
	return durable.WriteFile(private.EnvFile(s.root, containerID), data, 0o600)
}

// maxEnvString is Linux's limit for one string of an environment, in bytes, with
// its name, "=" and the closing NUL: MAX_ARG_STRLEN, 32 pages (execve(2)).
const maxEnvString = 32 * 4096

func unfitForEnv(name string, value []byte) string {
	if bytes.IndexByte(value, 0) >= 0 {
		return "the value has a NUL byte, which no environment variable can hold"
	}
	if !utf8.Valid(value) {
		return "the value is not UTF-8, and a container's configuration carries its environment as text"
	}
	if size := len(name) + len(value) + 2; size > maxEnvString {
		return fmt.Sprintf("the value has %d bytes and an environment variable holds at most %d", len(value), maxEnvString-len(name)-2)
	}
	return ""
}

// wanted returns the versions that the request must get, and completes an exec's
// request from the record of the container's start.
func (s *Store) wanted(req *wire.DeliverRequest) (secret.Versions, error) {
	if !req.Exec {
		pin, _ := s.pins.get(req.ContainerID)
		return pin.Versions, nil
	}
	rec, err := s.load(req.ContainerID)
	if err != nil {
		return nil, fmt.Errorf("cannot resolve %s: the container was not started with references, so an exec cannot use one", req.References[0].Ref)
	}
	req.Project, req.Name = rec.Request.Project, rec.Request.Name
	req.References = append(slices.Clone(req.References), slices.DeleteFunc(slices.Clone(rec.Request.References), func(r wire.Reference) bool {
		return !r.Given
	})...)
	return rec.Versions, nil
}

// ErrPolicy is wrapped when the policy of dso.yaml does not let a container read a
// secret that its specification names.
var ErrPolicy = errors.New("policy strict")

// Refused returns why [Store.Deliver] would not give a container what it asks for, whatever
// the stores have; nil when that would not keep it from being started.
func (s *Store) Refused(req wire.DeliverRequest) error {
	vars, err := parse(req.References)
	if err != nil {
		return err
	}
	return s.refused(req, vars)
}

// refused looks for secrets that the container's label names and that it is not given; and,
// under a strict policy, for those that are neither of its own project nor given to it by a
// target.
func (s *Store) refused(req wire.DeliverRequest, vars []resolve.Variable) error {
	if err := (target.Given{Missing: req.Missing}).Refused(); err != nil {
		return err
	}
	if s.strict == nil || !s.strict() {
		return nil
	}
	idOf := func(r secret.Ref) secret.ID { return s.resolver.IDs(req.Project, []secret.Ref{r})[0] }
	var given []secret.Ref
	for _, r := range req.References {
		if ref, err := secret.ParseRef(r.Ref); r.Given && err == nil {
			given = append(given, ref)
		}
	}
	// Who is given one field of a secret is not given the others.
	gives := func(wanted secret.Ref) bool {
		return slices.ContainsFunc(given, func(g secret.Ref) bool {
			return idOf(g) == idOf(wanted) && (g.Field == "" || g.Field == wanted.Field)
		})
	}
	for _, v := range vars {
		id := idOf(v.Ref)
		own := id.Provider == secret.DefaultProvider && req.Project != "" && strings.HasPrefix(id.Path, req.Project+"/")
		if !own && !gives(v.Ref) {
			return fmt.Errorf("%w: %s may not read %s for %s: secret %s is not of its own project, and no target in dso.yaml gives it to the container",
				ErrPolicy, req.Name, v.Ref, v.Name, id)
		}
	}
	return nil
}

// keep seals the values, writes the files, then the record.
func (s *Store) keep(req wire.DeliverRequest, files []File, versions secret.Versions, snap resolve.Snapshot, stale *Stale) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	_, asked := s.pins.get(req.ContainerID)
	values := map[secret.ID]secret.Value{}
	for id, v := range versions {
		if snap.Versions[id] == v { // another is one that it has already, in its environment
			values[id] = snap.Secrets[id]
		}
	}
	if err := s.sealed.Keep(req.ContainerID, versions, values, asked, now); err != nil {
		// That it cannot be started without its store some day is no reason to refuse it now.
		s.log.Warn("values not sealed", "container", req.ContainerID, "error", err)
	}
	if len(files) > 0 {
		if err := WriteFiles(private.Files(s.root, req.ContainerID), files, now); err != nil {
			return fmt.Errorf("deliver files: %w", err)
		}
	}
	return s.write(record{Request: req, Versions: versions, Time: now, Stale: stale})
}

func (s *Store) write(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode delivery record: %w", err)
	}
	return durable.WriteFile(private.Record(s.root, rec.Request.ContainerID), data, 0o600)
}

func filesFor(req wire.DeliverRequest, vars []resolve.Variable, snap resolve.Snapshot) ([]File, error) {
	var files []File
	by, at := map[string]string{}, map[string]string{}
	for _, v := range vars {
		if v.Ref.Kind != secret.KindFile {
			continue
		}
		if first, taken := at[v.Ref.File.Path]; taken && first != v.Ref.String() {
			return nil, fmt.Errorf("references %s and %s both ask for the file %s", first, v.Ref, v.Ref.File.Path)
		}
		if v.Ref.Fixed() {
			at[v.Ref.File.Path] = v.Ref.String()
		}
		name := fileName(v.Ref)
		if first, taken := by[name]; taken {
			if first == v.Ref.String() {
				continue // two variables that name the same file
			}
			return nil, fmt.Errorf("references %s and %s both ask for the file %s", first, v.Ref, name)
		}
		for other, ref := range by {
			if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
				return nil, fmt.Errorf("references %s and %s ask for the files %s and %s, and a file cannot be a directory too", ref, v.Ref, other, name)
			}
		}
		by[name] = v.Ref.String()
		f := File{Path: name, Value: snap.Values[v.Name], UID: int(req.UID), GID: int(req.GID), Mode: secret.DefaultFileMode}
		if o := v.Ref.File; o.UID != nil {
			f.UID = int(wire.HostID(*o.UID, req.UIDMap))
		}
		if o := v.Ref.File; o.GID != nil {
			f.GID = int(wire.HostID(*o.GID, req.GIDMap))
		}
		if o := v.Ref.File; o.Mode != nil {
			f.Mode = *o.Mode
		}
		files = append(files, f)
	}
	for name, ref := range by {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if other, taken := by[dir]; taken {
				return nil, fmt.Errorf("reference %s asks for the file %s, and %s for a file below it", other, dir, ref)
			}
		}
	}
	return files, nil
}

// FilePath is where a container sees the file of a dsofile:// reference.
func FilePath(r secret.Ref) string {
	if r.File.Path != "" {
		return r.File.Path
	}
	return wire.FilesTarget + "/" + fileName(r)
}

// fileName is the path of a reference's file below [wire.FilesTarget]. One that is seen
// elsewhere lies there too.
func fileName(r secret.Ref) string {
	if name, below := r.File.Below(); below && name != "" {
		return name
	}
	if r.Field == "" {
		return r.Path
	}
	return r.Path + "." + strings.ReplaceAll(r.Field, "/", "_")
}

func parse(refs []wire.Reference) ([]resolve.Variable, error) {
	vars := make([]resolve.Variable, 0, len(refs))
	var errs []error
	for _, r := range refs {
		ref, err := secret.ParseRef(r.Ref)
		if err != nil {
			errs = append(errs, fmt.Errorf("variable %s: %w", r.Variable, err))
			continue
		}
		vars = append(vars, resolve.Variable{Name: r.Variable, Ref: ref})
	}
	return vars, errors.Join(errs...)
}

// Readable returns why a start with exactly these versions would not get their values, nil
// when it would: they are read as [Store.Deliver] reads them, and nothing is kept.
func (s *Store) Readable(ctx context.Context, req wire.DeliverRequest, versions secret.Versions) error {
	vars, err := parse(req.References)
	if err != nil {
		return err
	}
	_, err = s.resolver.Snapshot(ctx, req.Project, vars, versions, nil)
	return err
}

// Refresh writes the container's files anew from the pinned or current versions
// and records them. Its environment cannot change, nor a file with a mount of its own: a
// secret that reaches the container in no other way keeps the version that it was
// started with.
func (s *Store) Refresh(ctx context.Context, containerID string) error {
	rec, err := s.load(containerID)
	if err != nil {
		return fmt.Errorf("refresh the files of %s: %w", containerID, err)
	}
	vars, err := parse(rec.Request.References)
	if err != nil {
		return err
	}
	pin, _ := s.pins.get(containerID)
	snap, err := s.resolver.Snapshot(ctx, rec.Request.Project, vars, pin.Versions, nil)
	if errors.Is(err, provider.ErrNoVersion) {
		if rec.Versions.Equal(pin.Versions) {
			return nil // they lie there already
		}
		snap, err = s.instead(ctx, rec.Request, vars, nil, err)
	}
	if err != nil {
		return err
	}
	files, err := filesFor(rec.Request, vars, snap)
	if err != nil {
		return err
	}
	versions := maps.Clone(rec.Versions)
	for _, v := range vars {
		if !v.Ref.Fixed() {
			for _, id := range s.resolver.IDs(rec.Request.Project, []secret.Ref{v.Ref}) {
				versions[id] = snap.Versions[id]
			}
		}
	}
	return s.keep(rec.Request, files, versions, snap, nil)
}

// Reseal seals what the container has, should it not be: the sealing key was lost, or
// nothing was sealed when it started. Its stores are asked for these versions.
func (s *Store) Reseal(ctx context.Context, containerID string, has secret.Versions) error {
	if s.sealed.Has(containerID, has) {
		return nil
	}
	rec, err := s.load(containerID)
	if err != nil || rec.Stale != nil || !rec.Versions.Equal(has) {
		return nil //nolint:nilerr // nothing was delivered, or something else by now
	}
	vars, err := parse(rec.Request.References)
	if err != nil {
		return err
	}
	snap, err := s.resolver.Snapshot(ctx, rec.Request.Project, vars, rec.Versions, nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last, _ := s.sealed.Last(containerID)
	known := last.Versions.Equal(rec.Versions) // then it also stays known whether it works with them
	return s.sealed.Keep(containerID, rec.Versions, snap.Secrets, !known, time.Now())
}

// Delivered returns the versions that the container got last, and when.
func (s *Store) Delivered(containerID string) (secret.Versions, time.Time, bool) {
	rec, err := s.load(containerID)
	if err != nil {
		return nil, time.Time{}, false
	}
	return rec.Versions, rec.Time, true
}

// Stale returns why the container does not have the current versions, as far as that
// is known; nil when it has what its store told.
func (s *Store) Stale(containerID string) *Stale {
	rec, err := s.load(containerID)
	if err != nil {
		return nil
	}
	return rec.Stale
}

// Untried returns the versions that the container had before, when it was started with
// others that no rotation brought, and nobody knows yet whether it works with them.
func (s *Store) Untried(containerID string) (before secret.Versions, untried bool) {
	set, _ := s.sealed.Last(containerID)
	return set.Before, len(set.Before) > 0
}

// Tried notes that it is known whether the container works with what it was given.
func (s *Store) Tried(containerID string) error { return s.sealed.Settle(containerID) }

// Given is one version of a secret.
type Given struct {
	Secret  secret.ID
	Version secret.Version
}

// FirstGiven is when versions were given to a container for the first time, of those that
// containers have.
func (s *Store) FirstGiven() map[Given]time.Time {
	first := map[Given]time.Time{}
	for _, container := range s.sealed.Containers() {
		set, _ := s.sealed.Last(container)
		for id, v := range set.Versions {
			if at, known := first[Given{id, v}]; !known || set.Since.Before(at) {
				first[Given{id, v}] = set.Since
			}
		}
	}
	return first
}

// StaleSince returns, for each stale container, since when it has what it has.
func (s *Store) StaleSince() []time.Time {
	ids, err := s.Known()
	if err != nil {
		return nil
	}
	var since []time.Time
	for _, id := range ids {
		if stale := s.Stale(id); stale != nil {
			since = append(since, stale.Since)
		}
	}
	return since
}

// PinnedAfterFailure counts the containers that did not work with some versions, and
// keep the ones before.
func (s *Store) PinnedAfterFailure() int { return s.pins.failed() }

// Confirm notes that the container's versions are the current ones after all.
func (s *Store) Confirm(containerID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.load(containerID)
	if err != nil || rec.Stale == nil {
		return err
	}
	rec.Stale = nil
	return s.write(rec)
}

// Retain lets go of sealed values that no container has or is pinned to, and none of
// the further versions is.
func (s *Store) Retain(further ...secret.Versions) error {
	s.mu.Lock() // so that nothing is sealed whose container is not known yet
	defer s.mu.Unlock()
	return s.sealed.Retain(append(further, s.pins.versions()...)...)
}

// Pin makes every later start of the container use these versions.
func (s *Store) Pin(containerID string, versions, failed secret.Versions) error {
	return s.pins.put(containerID, Pin{Versions: versions, Failed: failed, Since: time.Now().UTC()})
}

// Try pins a replacement to the versions of a rotation.
func (s *Store) Try(containerID string, versions secret.Versions) error {
	return s.pins.put(containerID, Pin{Versions: versions, Try: true, Since: time.Now().UTC()})
}

// Assign pins the container to the new versions of a change in place, and remembers
// the ones before.
func (s *Store) Assign(containerID string, versions, before secret.Versions) error {
	return s.pins.put(containerID, Pin{Versions: versions, Before: before, Since: time.Now().UTC()})
}

// Keep pins the container to versions because a person asked for it. One that a rotation
// has pinned it leaves alone, and kept is false.
func (s *Store) Keep(containerID string, versions secret.Versions, by string) (kept bool, err error) {
	return s.pins.keep(containerID, versions, by, time.Now().UTC())
}

// LetGo ends a pin that a person asked for, and reports whether there was one.
func (s *Store) LetGo(containerID string) (was bool, err error) { return s.pins.letGo(containerID) }

// Assigned returns the pins of the changes in place that are not over, by container.
func (s *Store) Assigned() map[string]Pin { return s.pins.assigned() }

// Unpin makes the container follow the current versions again.
func (s *Store) Unpin(containerID string) error { return s.pins.drop(containerID) }

// Pinned returns the container's pin.
func (s *Store) Pinned(containerID string) (Pin, bool) { return s.pins.get(containerID) }

// Forget drops all that is kept for a container that no longer exists.
func (s *Store) Forget(containerID string) error {
	if err := checkID(containerID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unread, containerID)
	return errors.Join(
		os.RemoveAll(private.Record(s.root, containerID)),
		os.RemoveAll(private.EnvFile(s.root, containerID)),
		os.RemoveAll(private.Files(s.root, containerID)),
		s.pins.drop(containerID),
		s.sealed.Forget(containerID))
}

// Sweep deletes what killed programs left on the tmpfs.
func (s *Store) Sweep() error { return private.SweepBundles(s.root) }

// Known returns the ids of all containers that something is kept for.
func (s *Store) Known() ([]string, error) {
	entries, err := os.ReadDir(private.Records(s.root))
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	ids := append(s.pins.ids(), s.sealed.Containers()...)
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && checkID(id) == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func (s *Store) load(containerID string) (record, error) {
	var rec record
	data, err := os.ReadFile(private.Record(s.root, containerID))
	if err != nil {
		return rec, err
	}
	return rec, json.Unmarshal(data, &rec)
}

// checkID keeps ids from being anything but a file's name.
func checkID(id string) error {
	if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" {
		return fmt.Errorf("container id %q is not valid", id)
	}
	return nil
}

// unsealed seals nothing.
type unsealed struct{}

func (unsealed) Keep(string, secret.Versions, map[secret.ID]secret.Value, bool, time.Time) error {
	return nil
}
func (unsealed) Has(string, secret.Versions) bool { return true }
func (unsealed) Settle(string) error              { return nil }
func (unsealed) Last(string) (seal.Set, bool)     { return seal.Set{}, false }
func (unsealed) Containers() []string             { return nil }
func (unsealed) Forget(string) error              { return nil }
func (unsealed) Retain(...secret.Versions) error  { return nil }
