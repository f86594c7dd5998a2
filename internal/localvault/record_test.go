package localvault

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestRecordAdd_BoundsTheHistoryInBytesToo(t *testing.T) {
	r := &record{Format: format, Name: "app/x"}
	for range 6 {
		r.add(entry{Value: make([]byte, MaxValueSize)})
	}
	assert.Equal(t, len(r.Versions), keepBytes/MaxValueSize)
	assert.Equal(t, r.Versions[len(r.Versions)-1].Version, 6)
}

func FuzzDecodeRecord(f *testing.F) {
	r := &record{Format: format, Name: "app/x"}
	r.add(entry{Created: time.Unix(1e9, 0).UTC(), Author: "ann", Value: []byte("v\x00\xff")})
	r.remove(entry{Created: time.Unix(2e9, 0).UTC()})
	r.add(entry{Value: []byte{}})
	good, err := r.encode()
	assert.NilError(f, err)
	f.Add(good)
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"format":1,"name":"app/x","versions":[{"version":1,"created":"2026-01-02T03:04:05+01:00","value":null}]}`))
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		r, err := decodeRecord("app/x", plaintext)
		if err != nil {
			assert.Assert(t, r == nil)
			return
		}
		assert.Equal(t, r.Name, "app/x")
		again, err := r.encode()
		assert.NilError(t, err)
		s, err := decodeRecord("app/x", again)
		assert.NilError(t, err)
		assert.Equal(t, len(s.Versions), len(r.Versions))
		for i := range s.Versions {
			assert.Equal(t, string(s.Versions[i].Value), string(r.Versions[i].Value))
			assert.Equal(t, s.Versions[i].Version, r.Versions[i].Version)
		}
	})
}
