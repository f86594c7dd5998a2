package deliver_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/deliver"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/private"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

const container = "0123456789abcdef"

var db = secret.ID{Provider: "local", Path: "app/db"}

func ask(refs ...string) wire.DeliverRequest {
	req := wire.DeliverRequest{ContainerID: container, Project: "app", UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for _, r := range refs {
		name, ref, _ := strings.Cut(r, "=")
		req.References = append(req.References, wire.Reference{Variable: name, Ref: ref})
	}
	return req
}

func execOf(refs ...string) wire.DeliverRequest {
	req := ask(refs...)
	req.Exec, req.Project = true, ""
	return req
}

func root(h *hosttest.Host) string { return filepath.Join(h.Dir, "private") }

func env(resp wire.DeliverResponse) map[string]string {
	out := map[string]string{}
	for k, v := range resp.Env {
		out[k] = string(v)
	}
	return out
}

func TestDeliver_GivesValuesAndPathsOfFiles(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", `{"user":"u","pass":"p"}`)
	h.Secrets.Set("app/tls", "key")
	resp, err := h.Store.Deliver(t.Context(), ask("U=dso://db#user", "P=dso://app/db#pass", "TLS=dsofile://app/tls", "F=dsofile://db#user"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{
		"U": "u", "P": "p", "TLS": "/run/secrets/dso/app/tls", "F": "/run/secrets/dso/db.user",
	})
	assert.DeepEqual(t, shown(t, resp.FilesDir), map[string]string{"app/tls": "key", "db.user": "u"})
	versions, at, known := h.Store.Delivered(container)
	assert.Assert(t, known)
	assert.Assert(t, time.Since(at) < time.Minute)
	assert.DeepEqual(t, versions, secret.Versions{db: "1", {Provider: "local", Path: "app/tls"}: "1"})
}

func TestDeliver_AFileHasThePathThatItIsGiven(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	h.Secrets.Set("app/tls", "key one")
	resp, err := h.Store.Deliver(t.Context(), ask("A=dsofile://app/db?path=/run/secrets/dso/conf/db", "B=dsofile://app/tls?path=/etc/shop/tls.key"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"A": "/run/secrets/dso/conf/db", "B": "/etc/shop/tls.key"})
	assert.DeepEqual(t, shown(t, resp.FilesDir), map[string]string{"conf/db": "one", "app/tls": "key one"})
	assert.Equal(t, len(resp.Mounts), 1)
	content, err := os.ReadFile(resp.Mounts["/etc/shop/tls.key"])
	assert.NilError(t, err)
	assert.Equal(t, string(content), "key one")

	// What has a mount of its own is not refreshed, and not taken for it.
	h.Secrets.Set("app/db", "two")
	h.Secrets.Set("app/tls", "key two")
	tls := secret.ID{Provider: "local", Path: "app/tls"}
	assert.NilError(t, h.Store.Assign(container, secret.Versions{db: "2", tls: "1"}, secret.Versions{db: "1", tls: "1"}))
	assert.NilError(t, h.Store.Refresh(t.Context(), container))
	has, _, _ := h.Store.Delivered(container)
	assert.DeepEqual(t, has, secret.Versions{db: "2", tls: "1"})
	assert.DeepEqual(t, shown(t, resp.FilesDir), map[string]string{"conf/db": "two", "app/tls": "key one"})
}

func TestDeliver_IsAllOrNothing(t *testing.T) {
	for name, refs := range map[string][]string{
		"a secret that is missing":      {"A=dsofile://app/db", "B=dso://app/missing"},
		"a field that is missing":       {"A=dsofile://app/db", "B=dso://app/db#nothing"},
		"a reference that is malformed": {"A=dsofile://app/db", "B=dso://app//x"},
		"a value unfit for a variable":  {"A=dsofile://app/db", "B=dso://app/binary"},
		"two files of one name":         {"A=dsofile://app/db?mode=0440", "B=dsofile://app/db"},
		"two files at one path":         {"A=dsofile://app/db?path=/etc/x", "B=dsofile://app/db/below?path=/etc/x"},
		"a file that is a directory":    {"A=dsofile://app/db", "B=dsofile://app/db/below"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t)
			h.Secrets.Set("app/db", "{}")
			h.Secrets.Set("app/db/below", "x")
			h.Secrets.Set("app/binary", "\xff\xfe")
			before := tree(t, root(h))
			resp, err := h.Store.Deliver(t.Context(), ask(refs...))
			assert.Assert(t, err != nil)
			assert.DeepEqual(t, resp, wire.DeliverResponse{})
			assert.DeepEqual(t, tree(t, root(h)), before)
		})
	}
}

// tree lists everything below dir.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	assert.NilError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, strings.TrimPrefix(path, dir))
		return err
	}))
	return paths
}

func TestDeliver_RefusesWhatAVariableCannotHoldAndSaysWhatCan(t *testing.T) {
	for name, tc := range map[string]struct{ value, why string }{
		"NUL":      {"hunter2\x00", "NUL byte"},
		"not text": {"hunter2\xff", "not UTF-8"},
		"too long": {strings.Repeat("hunter2!", 16384), "holds at most 131068"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t)
			h.Secrets.Set("app/db", tc.value)
			_, err := h.Store.Deliver(t.Context(), ask("DB=dso://app/db"))
			assert.ErrorContains(t, err, "cannot deliver dso://app/db for DB")
			assert.ErrorContains(t, err, tc.why)
			assert.ErrorContains(t, err, "use dsofile://")
			assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))

			resp, err := h.Store.Deliver(t.Context(), ask("DB=dsofile://app/db"))
			assert.NilError(t, err)
			assert.DeepEqual(t, shown(t, resp.FilesDir), map[string]string{"app/db": tc.value})
		})
	}
}

func TestDeliver_LongestValueThatFits(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", strings.Repeat("x", 131068))
	_, err := h.Store.Deliver(t.Context(), ask("DB=dso://app/db"))
	assert.NilError(t, err)
	_, err = h.Store.Deliver(t.Context(), ask("DBX=dso://app/db"))
	assert.ErrorContains(t, err, "131068 bytes")
}

// With other rules in dso.yaml a container asks for something else at its next start.
func TestUnread_IsOfTheLastStartOnly(t *testing.T) {
	h := hosttest.New(t)
	_, err := h.Store.Deliver(t.Context(), ask("A=dso://app/missing"))
	assert.Assert(t, err != nil)
	assert.Assert(t, h.Store.Unread(container) != nil)
	_, err = h.Store.Deliver(t.Context(), ask("A=dso://"))
	assert.Assert(t, err != nil)
	assert.NilError(t, h.Store.Unread(container), "nothing was read at this start")
}

func TestDeliver_FilesCollideByName(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/a", `{"b":"x","c/d":"y","c_d":"z"}`)
	h.Secrets.Set("app/a.b", "y")
	for _, refs := range [][]string{
		{"A=dsofile://app/a#b", "B=dsofile://app/a.b"},
		{"A=dsofile://app/a#c/d", "B=dsofile://app/a#c_d"},
	} {
		_, err := h.Store.Deliver(t.Context(), ask(refs...))
		for _, r := range refs {
			assert.ErrorContains(t, err, r[2:])
		}
	}
	_, err := h.Store.Deliver(t.Context(), ask("A=dsofile://app/a.b", "B=dsofile://app/a.b"))
	assert.NilError(t, err, "two variables may name one file")
}

func TestDeliver_OwnersAreThoseOfTheContainer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("only root gives files away: run the tests as root")
	}
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "x")
	req := ask("A=dsofile://app/db", "B=dsofile://db?uid=5&gid=6&mode=0440")
	req.UID, req.GID = 101000, 102000 // as the host sees them already
	req.UIDMap = []wire.IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	resp, err := h.Store.Deliver(t.Context(), req)
	assert.NilError(t, err)
	for name, want := range map[string]string{"app/db": "101000:102000 -r--------", "db": "100005:6 -r--r-----"} {
		assert.Equal(t, owner(t, filepath.Join(resp.FilesDir, name)), want)
	}
}

func TestDeliver_ExecGetsTheVersionsOfTheStart(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	_, err := h.Store.Deliver(t.Context(), ask("DB=dso://db"))
	assert.NilError(t, err)
	h.Secrets.Set("app/db", "two")
	resp, err := h.Store.Deliver(t.Context(), execOf("DB=dso://db"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"DB": "one"})

	_, err = h.Store.Deliver(t.Context(), ask("DB=dso://db")) // the container restarts
	assert.NilError(t, err)
	resp, err = h.Store.Deliver(t.Context(), execOf("DB=dso://db"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"DB": "two"})
}

func TestDeliver_ExecOfAnUnknownContainerIsRefused(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	_, err := h.Store.Deliver(t.Context(), execOf("DB=dso://app/db"))
	assert.ErrorContains(t, err, "the container was not started with references")
}

func TestDeliver_PinWins(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	h.Secrets.Set("app/db", "two")
	assert.NilError(t, h.Store.Pin(container, secret.Versions{db: "1"}, secret.Versions{db: "2"}))
	h.Boot(t) // the next agent keeps it
	resp, err := h.Store.Deliver(t.Context(), ask("DB=dso://app/db"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"DB": "one"})
	assert.NilError(t, h.Store.Unpin(container))
	resp, err = h.Store.Deliver(t.Context(), ask("DB=dso://app/db"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"DB": "two"})
	_, pinned := h.Store.Pinned(container)
	assert.Assert(t, !pinned)
}

func TestKeep_IsNotForWhatARotationHasPinned(t *testing.T) {
	h := hosttest.New(t)
	one, two := secret.Versions{db: "1"}, secret.Versions{db: "2"}
	assert.NilError(t, h.Store.Assign(container, two, one))
	kept, err := h.Store.Keep(container, one, "ann")
	assert.Assert(t, err == nil && !kept)
	was, err := h.Store.LetGo(container)
	assert.Assert(t, err == nil && !was)
	pin, pinned := h.Store.Pinned(container)
	assert.Assert(t, pinned && pin.Before.Equal(one) && pin.Versions.Equal(two), "it is as it was")

	assert.NilError(t, h.Store.Unpin(container))
	kept, err = h.Store.Keep(container, one, "ann")
	assert.Assert(t, err == nil && kept)
	h.Boot(t)
	pin, _ = h.Store.Pinned(container)
	assert.Equal(t, pin.By, "ann")
	was, err = h.Store.LetGo(container)
	assert.Assert(t, err == nil && was)
	_, pinned = h.Store.Pinned(container)
	assert.Assert(t, !pinned)
}

func TestRefresh_ChangesFilesButNotTheEnvironment(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	resp, err := h.Store.Deliver(t.Context(), ask("F=dsofile://app/db", "DB=dso://app/db"))
	assert.NilError(t, err)
	before, err := os.ReadFile(private.EnvFile(root(h), container))
	assert.NilError(t, err)
	h.Secrets.Set("app/db", "two")
	assert.NilError(t, h.Store.Refresh(t.Context(), container))
	assert.DeepEqual(t, shown(t, resp.FilesDir), map[string]string{"app/db": "two"})
	after, err := os.ReadFile(private.EnvFile(root(h), container))
	assert.NilError(t, err)
	assert.Assert(t, bytes.Equal(before, after))
}

func TestRefresh_RecordsWhatTheProcessHas(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	h.Secrets.Set("app/key", "one")
	_, err := h.Store.Deliver(t.Context(), ask("F=dsofile://app/key", "DB=dso://app/db"))
	assert.NilError(t, err)
	h.Secrets.Set("app/db", "two")
	h.Secrets.Set("app/key", "two")
	assert.NilError(t, h.Store.Refresh(t.Context(), container))
	has, _, _ := h.Store.Delivered(container)
	key := secret.ID{Provider: "local", Path: "app/key"}
	assert.DeepEqual(t, has, secret.Versions{db: "1", key: "2"})
}

func TestForget_LeavesNothing(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	before := tree(t, root(h))
	_, err := h.Store.Deliver(t.Context(), ask("F=dsofile://app/db", "DB=dso://app/db"))
	assert.NilError(t, err)
	assert.NilError(t, h.Store.Pin(container, secret.Versions{db: "1"}, nil))
	ids, err := h.Store.Known()
	assert.NilError(t, err)
	assert.DeepEqual(t, ids, []string{container})

	assert.NilError(t, h.Store.Forget(container))
	assert.DeepEqual(t, tree(t, root(h)), before)
	_, pinned := h.Store.Pinned(container)
	assert.Assert(t, !pinned)
	assert.NilError(t, h.Store.Forget(container), "twice is once")
}

func TestStore_IDThatIsAPathIsRefused(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "one")
	for _, bad := range []string{"", "..", "a/b", "a.json", "a\x00"} {
		req := ask("DB=dso://app/db")
		req.ContainerID = bad
		_, err := h.Store.Deliver(t.Context(), req)
		assert.ErrorContains(t, err, "is not valid")
		assert.ErrorContains(t, h.Store.Forget(bad), "is not valid")
	}
}

func TestStore_WritesNoValueOutsideItsRoot(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "hunter2-hunter2")
	_, err := h.Store.Deliver(t.Context(), ask("F=dsofile://app/db", "DB=dso://app/db"))
	assert.NilError(t, err)
	assert.NilError(t, h.Store.Pin(container, secret.Versions{db: "1"}, nil))
	for _, path := range tree(t, filepath.Join(h.Dir, "state")) {
		data, err := os.ReadFile(filepath.Join(h.Dir, "state", path))
		if err == nil {
			assert.Assert(t, !bytes.Contains(data, []byte("hunter2")), path)
		}
	}
}

func TestOpen_PinsThatCannotBeReadAreSetAside(t *testing.T) {
	h := hosttest.New(t)
	pins := filepath.Join(h.Dir, "state", "pins.json")
	assert.NilError(t, h.Store.Pin("one", secret.Versions{db: "1"}, nil))
	assert.NilError(t, h.Store.Pin("two", secret.Versions{db: "1"}, nil))
	assert.NilError(t, os.WriteFile(pins, []byte("{"), 0o600))
	store, err := deliver.Open(deliver.Config{Root: root(h), Pins: pins, Resolver: h.Resolver, Log: h.Log})
	var corrupt *durable.CorruptError
	assert.Assert(t, errors.As(err, &corrupt), "%v", err)
	_, pinned := store.Pinned("one")
	assert.Assert(t, pinned, "the generation before has it")
	assert.NilError(t, store.Pin("three", secret.Versions{db: "1"}, nil))
}

func TestDeliver_GivesWhatTheContainerHadWhileItsStoreDoesNotAnswer(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "user 1")
	h.Secrets.Set("app/password", "password 1")
	req := ask("U=dso://user", "P=dso://password")
	_, err := h.Store.Deliver(t.Context(), req)
	assert.NilError(t, err)
	assert.Assert(t, h.Store.Stale(container) == nil)

	// The host boots, and only the password can be read: never a mixture.
	reboot(t, h)
	h.Secrets.Set("app/user", "user 2")
	h.Secrets.Set("app/password", "password 2")
	h.Secrets.OnGet = func(path string, _ secret.Version) error {
		if path == "app/user" {
			return errors.New("connection refused")
		}
		return nil
	}
	resp, err := h.Store.Deliver(t.Context(), req)
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"U": "user 1", "P": "password 1"})
	stale := h.Store.Stale(container)
	assert.Assert(t, stale != nil)
	assert.Assert(t, strings.Contains(stale.Cause, "connection refused"), stale.Cause)
	assert.Assert(t, time.Since(stale.Since) < time.Minute)

	// A container that was given nothing before is refused.
	other := req
	other.ContainerID = "another"
	_, err = h.Store.Deliver(t.Context(), other)
	assert.ErrorContains(t, err, "connection refused")

	// It is what it has that is confirmed, and the next start is not stale.
	assert.NilError(t, h.Store.Confirm(container))
	assert.Assert(t, h.Store.Stale(container) == nil)
	h.Secrets.OnGet = nil
	resp, err = h.Store.Deliver(t.Context(), req)
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"U": "user 2", "P": "password 2"})
}

func TestDeliver_RefusesWhatTheStoreRefuses(t *testing.T) {
	for name, answer := range map[string]error{"deleted": provider.ErrNotFound, "denied": provider.ErrDenied} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t)
			h.Secrets.Set("app/db", "value")
			_, err := h.Store.Deliver(t.Context(), ask("V=dso://db"))
			assert.NilError(t, err)
			h.Secrets.OnGet = func(string, secret.Version) error { return answer }
			_, err = h.Store.Deliver(t.Context(), ask("V=dso://db"))
			assert.ErrorContains(t, err, "cannot resolve dso://db")
		})
	}
}

func TestDeliver_OfAPinnedVersionThatTheStoreForgot(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", "good")
	_, err := h.Store.Deliver(t.Context(), ask("V=dso://db"))
	assert.NilError(t, err)
	assert.NilError(t, h.Store.Pin(container, secret.Versions{db: "1"}, secret.Versions{db: "2"}))
	reboot(t, h)
	h.Secrets.OnGet = func(_ string, v secret.Version) error {
		if v == "1" {
			return provider.ErrNoVersion
		}
		return nil
	}
	assert.NilError(t, h.Store.Retain())
	resp, err := h.Store.Deliver(t.Context(), ask("V=dso://db"))
	assert.NilError(t, err)
	assert.DeepEqual(t, env(resp), map[string]string{"V": "good"})
	assert.Assert(t, h.Store.Stale(container) == nil, "it is what it shall have")
}

func TestRetain_KeepsWhatAnyContainerHasAndNothingElse(t *testing.T) {
	h := hosttest.New(t)
	values := func() int { return len(tree(t, filepath.Join(h.Dir, "sealed", "values"))) }
	empty := values()
	for range 3 {
		h.Secrets.Set("app/db", "value")
		_, err := h.Store.Deliver(t.Context(), ask("V=dso://db"))
		assert.NilError(t, err)
	}
	assert.Equal(t, values(), empty+3)
	assert.NilError(t, h.Store.Tried(container))
	assert.NilError(t, h.Store.Retain(secret.Versions{db: "1"}))
	assert.Equal(t, values(), empty+2)
	assert.NilError(t, h.Store.Retain())
	assert.Equal(t, values(), empty+1)
	assert.NilError(t, h.Store.Forget(container))
	assert.NilError(t, h.Store.Retain())
	assert.Equal(t, values(), empty)
}

// reboot ends the agent and empties what is gone with the host.
func reboot(t *testing.T, h *hosttest.Host) {
	t.Helper()
	h.Die()
	assert.NilError(t, os.RemoveAll(root(h)))
	h.Boot(t)
}

// The policy strict: of a secret of another project, what dso.yaml gives and no more.
func TestDeliver_AFieldThatIsGivenIsNotTheWholeSecret(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", `{"user":"u","pass":"p"}`)
	store, err := deliver.Open(deliver.Config{
		Root: root(h), Pins: filepath.Join(h.Dir, "pins.json"), Resolver: h.Resolver, Log: h.Log, Strict: func() bool { return true },
	})
	assert.NilError(t, err)
	for own, allowed := range map[string]bool{"dso://app/db#user": true, "dso://app/db#pass": false, "dso://app/db": false} {
		req := ask("OWN=" + own)
		req.Project = "shop"
		req.References = append(req.References, wire.Reference{Variable: "GIVEN", Ref: "dso://app/db#user", Given: true})
		_, err := store.Deliver(t.Context(), req)
		if allowed {
			assert.NilError(t, err)
			continue
		}
		assert.ErrorIs(t, err, deliver.ErrPolicy, own)
	}
}

// A store that has dropped a version, or made it for an agent that is gone, gives it to nobody
// any more, and nothing sealed it.
func TestDeliver_OfVersionsThatNobodyHasAnyMore(t *testing.T) {
	user, password := secret.ID{Provider: "local", Path: "app/user"}, secret.ID{Provider: "local", Path: "app/password"}
	had := secret.Versions{user: "1", password: "1"}
	for name, c := range map[string]struct {
		pin   func(s *deliver.Store) error
		gives string // the user; empty: it is refused
	}{
		"held while it is changed over":    {func(s *deliver.Store) error { return s.Pin(container, had, nil) }, "user 2"},
		"kept from versions before these":  {func(s *deliver.Store) error { return s.Pin(container, had, secret.Versions{user: "1", password: "x"}) }, "user 2"},
		"kept from these":                  {func(s *deliver.Store) error { return s.Pin(container, had, secret.Versions{user: "2", password: "1"}) }, ""},
		"a replacement that tries them":    {func(s *deliver.Store) error { return s.Try(container, had) }, ""},
		"a change in place to them":        {func(s *deliver.Store) error { return s.Assign(container, had, secret.Versions{user: "0"}) }, ""},
		"a person wants them":              {func(s *deliver.Store) error { _, err := s.Keep(container, had, "root"); return err }, ""},
		"the others cannot be read either": {func(s *deliver.Store) error { return s.Pin(container, had, nil) }, ""},
	} {
		h := hosttest.New(t)
		h.NoSeal = true
		h.Boot(t)
		for _, v := range []string{"1", "2"} {
			h.Secrets.Set("app/user", "user "+v)
			h.Secrets.Set("app/password", "password "+v)
		}
		h.Secrets.OnGet = func(path string, v secret.Version) error {
			if path == "app/user" && (v == "1" || strings.HasPrefix(name, "the others")) {
				return provider.ErrNoVersion // the password is there: never a mixture
			}
			return nil
		}
		assert.NilError(t, c.pin(h.Store))
		resp, err := h.Store.Deliver(t.Context(), ask("U=dso://user", "P=dso://password"))
		if c.gives == "" {
			assert.ErrorIs(t, err, provider.ErrNoVersion, name)
			continue
		}
		assert.NilError(t, err, name)
		assert.DeepEqual(t, env(resp), map[string]string{"U": c.gives, "P": "password 2"})
	}
}
