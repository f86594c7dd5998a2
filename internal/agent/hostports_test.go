package agent

import (
	"net/netip"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/engine"
)

func TestHolder_IsAContainerOfAnotherProjectAtTheSameAddress(t *testing.T) {
	for _, tc := range []struct {
		bound, wants string
		proto        string
		held         bool
	}{
		{"0.0.0.0", "", "tcp", true},
		{"::", "", "tcp", true},
		{"10.0.0.1", "", "tcp", true},
		{"0.0.0.0", "127.0.0.1", "tcp", true},
		{"127.0.0.1", "127.0.0.1", "tcp", true},
		{"127.0.0.1", "10.0.0.1", "tcp", false},
		{"0.0.0.0", "::", "tcp", false}, // the engine binds each family by itself
		{"::", "127.0.0.1", "tcp", false},
		{"::", "::1", "tcp", true},
		{"0.0.0.0", "", "udp", false},
	} {
		other := engine.Container{Name: "other", Published: []engine.Published{{Host: netip.MustParseAddr(tc.bound), Number: 80, Proto: "tcp"}}}
		want := ""
		if tc.held {
			want = "container other"
		}
		got := holder([]engine.Container{other}, "shop", wire.HostPort{Host: tc.wants, Number: 80, Proto: tc.proto})
		assert.Equal(t, got, want, "%+v", tc)
	}
}
