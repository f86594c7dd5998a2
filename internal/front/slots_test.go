package front

import (
	"net/netip"
	"testing"

	"gotest.tools/v3/assert"
)

func addrs(last ...byte) []netip.Addr {
	var all []netip.Addr
	for _, n := range last {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, n}))
	}
	return all
}

func (s *slots) share(a netip.Addr) (n int) {
	for _, sl := range s.all {
		if sl.to == a {
			n++
		}
	}
	return n
}

func TestSlots_AreSpreadEvenlyOverTheTargets(t *testing.T) {
	for n := 1; n <= 7; n++ {
		var s slots
		var targets []netip.Addr
		for i := range n { // as a service that is scaled up
			targets = append(targets, addrs(byte(i+1))...)
			s.follow(targets)
		}
		for _, a := range targets {
			got := s.share(a)
			assert.Assert(t, got >= slotCount/n && got <= (slotCount+n-1)/n, "%d of %d for one of %d", got, slotCount, n)
		}
	}
}

func TestSlots_OneThatLeavesMovesOnlyItsOwnClients(t *testing.T) {
	var s slots
	s.follow(addrs(1, 2, 3))
	before := s.all
	s.follow(addrs(1, 4, 3)) // 4 in the place of 2
	for i, sl := range s.all {
		if before[i].to == addrs(2)[0] {
			assert.Equal(t, sl.to, addrs(4)[0])
			assert.Assert(t, sl.zone != before[i].zone && !(&slots{all: before}).uses(sl.zone))
			continue
		}
		assert.Equal(t, sl.to, before[i].to)
		assert.Equal(t, sl.zone, before[i].zone)
	}
}

func TestSlots_AClientStaysWithWhoItMetWhenMoreCome(t *testing.T) {
	var s slots
	s.follow(addrs(1, 2))
	before := s.all
	s.follow(addrs(1, 2, 3))
	assert.Assert(t, s.share(addrs(3)[0]) > 0)
	for i, sl := range s.all {
		assert.Equal(t, sl.zone, before[i].zone, "its flows are found in the zone")
	}
	// What it met has left: now it goes where its slot leads.
	s.follow(addrs(2, 3))
	for i, sl := range s.all {
		assert.Equal(t, sl.zone != before[i].zone, before[i].to == addrs(1)[0])
	}
}

func TestSlots_WithoutTargetsAllStays(t *testing.T) {
	var s slots
	s.follow(addrs(1, 2))
	before := s
	s.follow(nil)
	assert.DeepEqual(t, s.share(addrs(1)[0]), before.share(addrs(1)[0]))
	s.follow(addrs(1, 2))
	for i := range s.all {
		assert.Equal(t, s.all[i].zone, before.all[i].zone)
	}
}

func TestSlots_ZonesAreNeverTheOneOfEverybody(t *testing.T) {
	s := slots{last: 65530}
	s.follow(addrs(1))
	assert.Assert(t, !s.uses(0))
}
