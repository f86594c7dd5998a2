package resolve_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/resolve"
	"github.com/docker-secret-operator/dso/internal/secret"
)

var user, password = secret.ID{Provider: "local", Path: "app/user"}, secret.ID{Provider: "local", Path: "app/password"}

func vars(t *testing.T, refs ...string) []resolve.Variable {
	t.Helper()
	var out []resolve.Variable
	for i, r := range refs {
		ref, err := secret.ParseRef(r)
		assert.NilError(t, err)
		out = append(out, resolve.Variable{Name: fmt.Sprintf("V%d", i), Ref: ref})
	}
	return out
}

func TestSnapshot_IsOfOneMoment(t *testing.T) {
	h := hosttest.New(t)
	set := func(n int) {
		h.Secrets.Set("app/user", fmt.Sprint("user ", n))
		h.Secrets.Set("app/password", fmt.Sprint("password ", n))
	}
	set(1)
	changes := 0
	h.Secrets.AfterGet = func(path string) {
		if path == "app/user" && changes < 3 {
			changes++
			set(1 + changes)
		}
	}
	snap, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user", "dso://password"), nil, nil)
	assert.NilError(t, err)
	assert.Equal(t, string(snap.Values["V0"].Reveal()), "user 4")
	assert.Equal(t, string(snap.Values["V1"].Reveal()), "password 4")
	assert.DeepEqual(t, snap.Versions, secret.Versions{user: "4", password: "4"})
}

func TestSnapshot_OfSecretsThatNeverHoldStillIsRefused(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "u")
	h.Secrets.Set("app/password", "p")
	h.Secrets.AfterGet = func(string) { h.Secrets.Set("app/user", "another") }
	_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user", "dso://password"), nil, nil)
	assert.ErrorContains(t, err, "changed 5 times while they were read")
}

// A start does not wait for one answer after the other.
func TestSnapshot_ReadsSeveralSecretsAtATime(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "u")
	h.Secrets.Set("app/password", "p")
	var both sync.WaitGroup
	both.Add(2)
	h.Secrets.OnGet = func(string, secret.Version) error {
		both.Done()
		both.Wait() // for the other's question
		return nil
	}
	snap, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user", "dso://password"), nil, nil)
	assert.NilError(t, err)
	assert.Equal(t, len(snap.Values), 2)
}

func TestSnapshot_AllFieldsOfASecretAreOfOneVersion(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/db", `{"user":"u1","pass":"p1"}`)
	reads := 0
	h.Secrets.OnGet = func(string, secret.Version) error {
		reads++
		h.Secrets.Set("app/db", `{"user":"u2","pass":"p2"}`)
		return nil
	}
	snap, err := h.Resolver.Snapshot(t.Context(), "", vars(t, "dso://app/db#user", "dso://app/db#pass"), nil, nil)
	assert.NilError(t, err)
	assert.Equal(t, reads, 1)
	assert.Equal(t, string(snap.Values["V0"].Reveal())[1:], string(snap.Values["V1"].Reveal())[1:])
}

func TestSnapshot_WantedVersionsAreKept(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "u1")
	h.Secrets.Set("app/user", "u2")
	h.Secrets.Set("app/password", "p1")
	snap, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user", "dso://password"), secret.Versions{user: "1"}, nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, snap.Versions, secret.Versions{user: "1", password: "1"})
	assert.Equal(t, string(snap.Values["V0"].Reveal()), "u1")
}

func TestSnapshot_ErrorsNameReferenceProviderAndCauseButNoValue(t *testing.T) {
	for name, tc := range map[string]struct {
		ref  string
		want secret.Versions
		says []string
	}{
		"missing":          {ref: "dso://nothing", says: []string{"dso://nothing", "V0", "provider local has no secret app/nothing"}},
		"missing field":    {ref: "dso://user#x", says: []string{"dso://user#x", "V0", "local:app/user", "no such member"}},
		"not an object":    {ref: "dso://password#x", says: []string{"dso://password#x", "not a JSON object"}},
		"missing version":  {ref: "dso://user", want: secret.Versions{user: "9"}, says: []string{"dso://user", "local:app/user version 9", "no such version"}},
		"another provider": {ref: "dso://aws/app/user", says: []string{"dso://aws/app/user", "provider local has no secret aws/app/user"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t)
			h.Secrets.Set("app/user", `{"hunter2":"hunter2"}`)
			h.Secrets.Set("app/password", "hunter2")
			_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, tc.ref), tc.want, nil)
			for _, s := range tc.says {
				assert.ErrorContains(t, err, s)
			}
			assert.Assert(t, !strings.Contains(err.Error(), "hunter2"))
		})
	}
}

func TestSnapshot_StoreThatFailsIsNamed(t *testing.T) {
	h := hosttest.New(t)
	down := errors.New("connection refused")
	h.Secrets.Break(down)
	_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user"), nil, nil)
	assert.ErrorIs(t, err, down)
	assert.ErrorContains(t, err, "cannot resolve dso://user for V0: secret local:app/user: connection refused")
}

// A start must not fail for what somebody has just written into the store, but a rotation to it must.
func TestSnapshot_OfAValueThatIsNoneIsTheOneBefore(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", `{"name":"u1"}`)
	h.Secrets.Set("app/user", `{"nam":"u2"}`)
	last := secret.Versions{user: "1"}
	before := func(cause error) {
		t.Helper()
		snap, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user#name"), nil, last)
		assert.NilError(t, err)
		assert.DeepEqual(t, snap.Versions, last)
		assert.ErrorIs(t, snap.Stale, cause)
		_, err = h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user#name"), secret.Versions{user: "2"}, last)
		assert.ErrorIs(t, err, cause)
	}
	before(secret.ErrUnfit)
	for cause, obeyed := range map[error]bool{provider.ErrTooLarge: false, provider.ErrDenied: true} {
		h.Secrets.OnGet = func(_ string, v secret.Version) error {
			if v == "1" {
				return nil
			}
			return cause
		}
		if !obeyed {
			before(cause)
			continue
		}
		_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user#name"), nil, last)
		assert.ErrorIs(t, err, cause)
	}
}

func TestSnapshot_AProviderIsNamedOnce(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "u")
	h.Secrets.Break(provider.Explain("local", "app/user", provider.ErrDenied))
	_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user"), nil, nil)
	assert.ErrorIs(t, err, provider.ErrDenied)
	assert.Error(t, err, "cannot resolve dso://user for V0: secret local:app/user: the store denies access (permanent)")
}

func TestUse_WhatIsBeingResolvedGoesOnWithTheProvidersBefore(t *testing.T) {
	h := hosttest.New(t)
	h.Secrets.Set("app/user", "u")
	h.Secrets.Set("app/password", "p")
	h.Secrets.OnGet = func(string, secret.Version) error {
		h.Resolver.Use(provider.NewRegistry(nil))
		return nil
	}
	_, err := h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user", "dso://password"), nil, nil)
	assert.NilError(t, err)
	_, err = h.Resolver.Snapshot(t.Context(), "app", vars(t, "dso://user"), nil, nil)
	assert.ErrorContains(t, err, `provider "local" is not configured`)
}

func TestIDs_NamesEverySecretOnce(t *testing.T) {
	h := hosttest.New(t)
	var refs []secret.Ref
	for _, v := range vars(t, "dso://user#a", "dsofile://user#b", "dso://app/user") {
		refs = append(refs, v.Ref)
	}
	assert.DeepEqual(t, h.Resolver.IDs("app", refs), []secret.ID{user})
}
