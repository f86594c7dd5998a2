package front

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/address/nftrule"
)

// write queues the whole table of one family. The table and its chains stay and
// only their rules are exchanged: a packet then meets the old rules of a chain
// or the new ones, and never a hook that is being moved. With slots, what comes by UDP goes
// where they say.
func write(c *nftables.Conn, f nftrule.Family, generation uint64, targets []frontmap.Target, udp *slots) error {
	t := c.AddTable(&nftables.Table{Name: frontmap.Table, Family: f.Table})
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: prio})
	}
	prerouting := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	postrouting := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	refuse := chain("refuse", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	applied := chain(frontmap.MarkChain, "", nil, nil)
	c.FlushTable(t)

	add := func(ch *nftables.Chain, comment string, exprs ...[]expr.Any) {
		r := &nftables.Rule{Table: t, Chain: ch, Exprs: nftrule.Join(exprs...)}
		if comment != "" {
			r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
		}
		c.AddRule(r)
	}
	addrs := addresses(f, targets)
	if udp != nil && len(addrs) > 0 {
		where := &nftables.Set{Table: t, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: f.Address}
		if err := c.AddSet(where, udp.elements(func(s slot) []byte { return s.to.AsSlice() })); err != nil {
			return err
		}
		add(prerouting, "", nftrule.Arriving(), nftrule.L4(unix.IPPROTO_UDP), nftrule.ToThisHost(), f.ForwardToOneOf(where, slotCount))
	}
	for i, a := range addrs {
		add(prerouting, "", nftrule.Arriving(), f.NotICMP(), nftrule.ToThisHost(), nftrule.OneIn(len(addrs)-i), f.ForwardTo(a))
	}
	if len(addrs) == 0 {
		add(refuse, "", nftrule.Arriving(), nftrule.NewFlow(), nftrule.ToThisHost(), nftrule.L4(unix.IPPROTO_TCP), nftrule.ResetTCP())
		add(refuse, "", nftrule.Arriving(), nftrule.NewFlow(), nftrule.ToThisHost(), f.NotICMP(), f.Unreachable())
	}
	add(postrouting, "", nftrule.Leaving(), nftrule.Forwarded(), nftrule.Masquerade())
	for _, mark := range frontmap.Marks(generation, targets) {
		add(applied, mark, nftrule.Return())
	}
	return nil
}

// addresses returns those of one family.
func addresses(f nftrule.Family, targets []frontmap.Target) (addrs []netip.Addr) {
	for _, target := range targets {
		if f.Has(target.Addr) {
			addrs = append(addrs, target.Addr)
		}
	}
	return addrs
}
