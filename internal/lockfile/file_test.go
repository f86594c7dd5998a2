package lockfile_test

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/lockfile"
)

func TestParseHolder_UnderstandsOtherVersions(t *testing.T) {
	for text, pid := range map[string]int{
		"123": 123, "77\n": 77, `{"pid":5,"start_time":"2026-05-04T03:02:01Z","boot_id":"b"}`: 5,
		`{"pid":6,"start_time":1714000000,"owner":"dso"}`: 6, `{"pid":7,"timestamp":"yesterday"}`: 7,
	} {
		h, err := lockfile.ParseHolder([]byte(text))
		assert.NilError(t, err, text)
		assert.Equal(t, h.PID, pid, text)
	}
	for _, text := range []string{"", "\n", "0", "-1", "99999999999999999999", "{}", "[1]", `{"pid":-4}`, `{"pid":4194305}`, "pid 12", "\x7fELF", strings.Repeat("{", 99)} {
		_, err := lockfile.ParseHolder([]byte(text))
		assert.Assert(t, err != nil, text)
	}
}

func FuzzParseHolder(f *testing.F) {
	for _, text := range []string{"", "123", `{"pid":5,"start_time":"2026-05-04T03:02:01Z"}`, `{"pid":6,"start_time":1}`, "\x00\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := lockfile.ParseHolder(data)
		if err == nil && (h.PID < 1 || h.PID > 1<<22) {
			t.Fatalf("%q gives pid %d", data, h.PID)
		}
		if err != nil && h != (lockfile.Holder{}) && h.PID > 0 && h.PID <= 1<<22 {
			t.Fatalf("%q gives %v and %v", data, h, err)
		}
	})
}
