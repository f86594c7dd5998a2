package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func isProvider(names ...string) func(string) bool {
	return func(s string) bool { return strings.Contains(" "+strings.Join(names, " ")+" ", " "+s+" ") }
}

func TestParseRef_RoundTrips(t *testing.T) {
	for _, s := range []string{
		"dso://db_password", "dso://app/db_password", "dso://vault/kv/app#password",
		"dsofile://app/tls.key", "dsofile://app/tls?uid=1000&gid=1000&mode=0440#key", "dso://a/b#c d/e",
		"dsofile://app/tls?path=/etc/shop/tls.key", "dsofile://app/tls?uid=1000&path=/run/secrets/dso/a/b#key",
	} {
		r, err := ParseRef(s)
		assert.NilError(t, err, s)
		assert.Equal(t, r.String(), s)
		assert.Assert(t, IsRef(s))
	}
}

func TestParseRef_RefusesAndNamesTheReference(t *testing.T) {
	for s, want := range map[string]string{
		"dso://":                            "the path is empty",
		"dso:///a":                          "empty segment",
		"dso://a//b":                        "empty segment",
		"dso://a/../b":                      "starts with a dot",
		"dso://a b":                         "not a letter",
		"dso://a#":                          "the field after # is empty",
		"dso://a#b\x00":                     "not allowed",
		"http://a":                          "neither dso:// nor dsofile://",
		"dso://a?mode=0400":                 "only a dsofile://",
		"dsofile://a?mode=999":              "not an octal mode",
		"dsofile://a?owner=me":              "unknown option",
		"dsofile://a?uid=-1":                "is not a number",
		"dsofile://a?path=etc/x":            "not the whole path",
		"dsofile://a?path=/etc/../x":        "not the whole path",
		"dsofile://a?path=/":                "not the whole path",
		"dsofile://a?path=/run/secrets":     "not the whole path",
		"dsofile://a?path=/run/secrets/dso": "not the whole path",
		"dsofile://a?path=/etc/a b":         "has a character",
		"dsofile://a?path=/proc/1/x":        "below /proc",
		"dsofile://a?path=/run/secrets/dso/..data/x": "starts with a dot",
		"dso://" + strings.Repeat("a", 2000):         "longer than",
	} {
		_, err := ParseRef(s)
		assert.ErrorIs(t, err, ErrBadRef)
		assert.ErrorContains(t, err, want)
	}
}

func TestRef_KnowsWhatARunningContainerKeeps(t *testing.T) {
	for s, fixed := range map[string]bool{
		"dso://a": true, "dsofile://a": false, "dsofile://a?path=/run/secrets/dso/x": false, "dsofile://a?path=/etc/x": true,
		"dsofile://a?path=/run/secrets/dso.key": true,
	} {
		r, err := ParseRef(s)
		assert.NilError(t, err)
		assert.Equal(t, r.Fixed(), fixed, s)
	}
}

func TestRef_MeansTheProjectsSecretWithoutANamespace(t *testing.T) {
	for _, tt := range []struct{ ref, project, want string }{
		{"dso://db", "shop", "local:shop/db"},
		{"dso://db", "", "local:default/db"},
		{"dso://app/db", "shop", "local:app/db"},
		{"dso://local/db", "shop", "local:shop/db"},
		{"dso://local/app/db", "shop", "local:app/db"},
		{"dso://vault/kv/db", "shop", "vault:kv/db"},
		{"dso://vault", "shop", "local:shop/vault"},
		{"dso://other/kv", "shop", "local:other/kv"},
	} {
		r, err := ParseRef(tt.ref)
		assert.NilError(t, err)
		assert.Equal(t, r.In(tt.project, isProvider("local", "vault")).String(), tt.want)
		id, err := ParseName(strings.TrimPrefix(tt.ref, "dso://"), tt.project, isProvider("local", "vault"))
		assert.NilError(t, err)
		assert.Equal(t, id.String(), tt.want, "a name on the command line means the same")
		for _, shown := range []string{tt.want, tt.ref} {
			id, err = ParseName(shown, tt.project, isProvider("local", "vault"))
			assert.NilError(t, err)
			assert.Equal(t, id.String(), tt.want, "and so does what is shown")
		}
	}
	for _, name := range []string{"nosuch:kv/db", "local:", "local:a:b", ":db", "dso://db#field", "a b", ""} {
		_, err := ParseName(name, "shop", isProvider("local", "vault"))
		assert.Check(t, errors.Is(err, ErrBadRef), "%q: %v", name, err)
	}
}

func TestValue_IsNeverPrinted(t *testing.T) {
	v := NewValue([]byte("canary"))
	type outer struct {
		hidden Value
		Shown  *Value
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, x := range []any{v, &v, outer{v, &v}, []Value{v}, map[string]Value{"k": v}} {
			out := fmt.Sprintf(format, x)
			assert.Assert(t, !strings.Contains(out, "canary"), "%s of %T", format, x)
			assert.Assert(t, !strings.Contains(out, "63616e617279"), "%s of %T", format, x)
		}
	}
	_, err := json.Marshal(outer{v, &v})
	assert.Assert(t, errors.Is(err, ErrMarshal))
	assert.Equal(t, v.LogValue().String(), Redacted)
}

func TestField_TakesOneMemberAndNeverQuotesTheValue(t *testing.T) {
	v := NewValue([]byte(`{"user":"app","n":5,"o":{"a":1},"z":null}`))
	for field, want := range map[string]string{"user": "app", "n": "5", "o": `{"a":1}`} {
		got, err := Field(v, field)
		assert.NilError(t, err)
		assert.Equal(t, string(got.Reveal()), want)
	}
	for _, tt := range []struct{ value, field string }{{`{"user":"canary"}`, "x"}, {"canary", "x"}, {`{"x":null,"y":"canary"}`, "x"}, {`["canary"]`, "x"}} {
		_, err := Field(NewValue([]byte(tt.value)), tt.field)
		assert.ErrorContains(t, err, `field "x"`)
		assert.Assert(t, !strings.Contains(err.Error(), "canary"))
	}
}

func TestVersions_AreReadableJSON(t *testing.T) {
	vs := Versions{{Provider: "local", Path: "app/db"}: "3"}
	data, err := json.Marshal(vs)
	assert.NilError(t, err)
	assert.Equal(t, string(data), `{"local:app/db":"3"}`)
	var back Versions
	assert.NilError(t, json.Unmarshal(data, &back))
	assert.Assert(t, back.Equal(vs))
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"dso://a/b#c", "dsofile://x?mode=0400&uid=1#k", "dsofile://x?path=/etc/x", "dso://", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q parses to %q, which does not parse to itself: %v", s, r.String(), err)
		}
	})
}
