package frontmap_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"
)

func TestMarks_AreReadBackAsWritten(t *testing.T) {
	want := []frontmap.Target{
		{Name: "4f1c2ab09d3e", Addr: netip.MustParseAddr("172.18.0.3")},
		{Name: "web-2", Addr: netip.MustParseAddr("fd00::3")},
	}
	generation, got, err := frontmap.ParseMarks(frontmap.Marks(7, want))
	assert.NilError(t, err)
	assert.Equal(t, generation, uint64(7))
	assert.DeepEqual(t, got, want, cmpopts.EquateComparable(netip.Addr{}))
}

func TestMarks_OfALongNameKeepTheAddress(t *testing.T) {
	addr := netip.MustParseAddr("172.18.0.3")
	marks := frontmap.Marks(1, []frontmap.Target{{Name: strings.Repeat("n", 200), Addr: addr}})
	assert.Assert(t, len(marks[1]) <= 128, "nft cannot print %d bytes", len(marks[1]))
	_, got, err := frontmap.ParseMarks(marks)
	assert.NilError(t, err)
	assert.Equal(t, got[0].Addr, addr)
}

func TestParseMarks_RefusesHalfAnAnswer(t *testing.T) {
	_, _, err := frontmap.ParseMarks(nil)
	assert.ErrorIs(t, err, frontmap.ErrNoMarks)
	for _, marks := range [][]string{
		{"something else"},
		{"dso generation=1 addresses=2", "dso address=10.0.0.1 target=a"},
		{"dso generation=1 addresses=1", "dso address=a target=a"},
	} {
		_, _, err := frontmap.ParseMarks(marks)
		assert.Check(t, err != nil, "%q", marks)
	}
}
