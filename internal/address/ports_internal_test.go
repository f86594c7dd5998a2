package address

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"
)

const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// The samples are written as a little-endian kernel writes them.
func TestParseListening_KeepsWhatListens(t *testing.T) {
	ports, err := parseListening(strings.NewReader(header +
		"   0: 00000000:1F90 00000000:0000 0A 0 0 0 0 0 1\n" + // 0.0.0.0:8080
		"   1: 0B00007F:A001 00000000:0000 0A 0 0 0 0 0 1\n" + // 127.0.0.11, Docker's DNS
		"   2: 0200A8C0:0050 00000000:0000 0A 0 0 0 0 0 1\n" + // 192.168.0.2:80
		"   3: 0200A8C0:1F90 0300A8C0:C001 01 0 0 0 0 0 1\n" + // established
		"   4: 0000000000000000FFFF00000100007F:2222 0 0A 0 0 0 0 0 1\n" + // ::ffff:127.0.0.1
		"   5: 00000000000000000000000001000000:2222 0 0A 0 0 0 0 0 1\n" + // ::1
		"   6: 00000000000000000000000000000000:01BB 0 0A 0 0 0 0 0 1\n"))
	assert.NilError(t, err)
	assert.DeepEqual(t, ports, []Port{
		{netip.MustParseAddr("0.0.0.0"), 8080},
		{netip.MustParseAddr("127.0.0.11"), 0xA001},
		{netip.MustParseAddr("192.168.0.2"), 80},
		{netip.MustParseAddr("127.0.0.1"), 0x2222},
		{netip.MustParseAddr("::1"), 0x2222},
		{netip.MustParseAddr("::"), 443},
	}, cmpopts.EquateComparable(netip.Addr{}))
}

func FuzzParseListening(f *testing.F) {
	f.Add(header + "   0: 00000000:1F90 00000000:0000 0A\n")
	f.Fuzz(func(t *testing.T, table string) {
		ports, err := parseListening(strings.NewReader(table))
		for _, p := range ports {
			assert.Assert(t, err != nil || p.Addr.IsValid())
		}
	})
}
