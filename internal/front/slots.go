package front

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// slotCount is over how many slots the clients are spread that send by UDP. Each is written at
// each change-over; with more containers than slots some would get nothing by UDP.
const slotCount = 16

// slot is what a client's address and port lead to. A client stays in its slot, so in
// one container, and one zone.
type slot struct {
	to   netip.Addr
	zone uint16       // that its requests are looked up in
	met  []netip.Addr // who may have flows in the zone
}

// slots are those of one family.
type slots struct {
	all  [slotCount]slot
	last uint16 // zone that was given
}

// follow spreads the slots over the targets, and moves no more of them than it must. A slot
// whose zone has flows with somebody who left gets another zone, where each client begins
// anew; the others keep theirs, and so their flows. With no targets, all stays.
func (s *slots) follow(targets []netip.Addr) {
	if len(targets) == 0 {
		return
	}
	share := map[netip.Addr]int{}
	each, more := slotCount/len(targets), slotCount%len(targets) // so many have one more
	var free []int
	for i, sl := range s.all {
		switch has := share[sl.to]; {
		case !slices.Contains(targets, sl.to), has > each, has == each && more == 0:
			free = append(free, i)
			continue
		case has == each:
			more--
		}
		share[sl.to]++
	}
	for _, i := range free {
		to := slices.MinFunc(targets, func(a, b netip.Addr) int { return share[a] - share[b] })
		share[to]++
		s.all[i].to = to
	}
	for i := range s.all {
		sl := &s.all[i]
		left := slices.ContainsFunc(sl.met, func(a netip.Addr) bool { return !slices.Contains(targets, a) })
		if left || sl.zone == 0 {
			sl.zone, sl.met = s.fresh(), nil
		}
		if !slices.Contains(sl.met, sl.to) {
			sl.met = append(sl.met, sl.to)
		}
	}
}

// fresh is a zone that was not given for as long as may be. Zone 0 is that of everything
// which has no other.
func (s *slots) fresh() uint16 {
	s.last++
	if s.last == 0 {
		s.last++
	}
	return s.last
}

// elements is a map of the slots that are in use to something of theirs.
func (s *slots) elements(of func(slot) []byte) (list []nftables.SetElement) {
	for i, sl := range s.all {
		if sl.zone != 0 {
			list = append(list, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: of(sl)})
		}
	}
	return list
}

// uses says whether requests are looked up in a zone.
func (s *slots) uses(zone uint16) bool {
	return slices.ContainsFunc(s.all[:], func(sl slot) bool { return sl.zone == zone })
}
