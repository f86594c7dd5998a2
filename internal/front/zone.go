package front

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/address/frontmap"
	"github.com/docker-secret-operator/dso/internal/address/nftrule"
)

// What a client sends by UDP from one port belongs to one flow, and goes where that went
// first. To forget the flow moves the client, but takes the answer away that is under way
// from the container that leaves. So the requests, and only they, are looked up in a zone of
// connection tracking, that of the client's slot. With another zone it begins a new flow, and
// the old one stays for the answers that it is owed.

// zoneChain is in the front's table of both families.
const zoneChain = "zone"

// makeZones has what is sent to the front by UDP looked up in the zones of the slots: of none
// yet.
func (n *netfilter) makeZones() error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	n.rules = c
	t := c.AddTable(&nftables.Table{Name: frontmap.Table, Family: nftables.TableFamilyINet})
	c.AddChain(&nftables.Chain{
		Name: zoneChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, // before a flow is looked up
	})
	c.FlushTable(t) // of an earlier process here
	for i := range n.families {
		f := &n.families[i]
		f.zones = &nftables.Set{Table: t, Name: fmt.Sprintf("zones%d", i), IsMap: true, KeyType: nftables.TypeInteger, DataType: zoneType}
		err = errors.Join(err, c.AddSet(f.zones, nil))
	}
	if err := errors.Join(err, c.Flush()); err != nil {
		return errors.Join(fmt.Errorf("make table of zones: %w", err), n.closeRules())
	}
	socket, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open netfilter: %w", err)
	}
	for _, f := range n.families {
		rule, err := zoneRule(f.Family, f.zones)
		if err == nil {
			err = nftrule.Send(socket, unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, unix.NFPROTO_INET, rule)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("make rule of zones: %w", err), socket.Close())
		}
	}
	return socket.Close()
}

func zoneOf(s slot) []byte { return binaryutil.NativeEndian.PutUint16(s.zone) }

// zoneType is a zone of connection tracking; nft knows no type for it.
var zoneType = nftables.TypeInetService

// zoneRule is "meta l4proto udp meta nfproto … iifname != lo fib daddr type local ct original
// zone set jhash saddr . th sport mod … map @zones". Every packet of a front meets it, most of
// them by TCP: what they fail on is first. google/nftables writes no direction.
func zoneRule(f nftrule.Family, zones *nftables.Set) ([]byte, error) {
	exprs := nftrule.Join(nftrule.L4(unix.IPPROTO_UDP), f.Is(), nftrule.Arriving(), nftrule.ToThisHost(), f.ByClient(zones, slotCount))
	attrs := netlink.NewAttributeEncoder()
	attrs.String(unix.NFTA_RULE_TABLE, frontmap.Table)
	attrs.String(unix.NFTA_RULE_CHAIN, zoneChain)
	attrs.Nested(unix.NFTA_RULE_EXPRESSIONS, func(list *netlink.AttributeEncoder) error {
		for _, e := range exprs {
			data, err := expr.Marshal(byte(nftables.TableFamilyINet), e)
			if err != nil {
				return err
			}
			list.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data)
		}
		list.Nested(unix.NFTA_LIST_ELEM, func(ct *netlink.AttributeEncoder) error {
			ct.String(unix.NFTA_EXPR_NAME, "ct")
			ct.Nested(unix.NFTA_EXPR_DATA, func(data *netlink.AttributeEncoder) error {
				data.Bytes(unix.NFTA_CT_KEY, binaryutil.BigEndian.PutUint32(unix.NFT_CT_ZONE))
				data.Bytes(unix.NFTA_CT_SREG, binaryutil.BigEndian.PutUint32(unix.NFT_REG_1))
				data.Uint8(unix.NFTA_CT_DIRECTION, 0) // IP_CT_DIR_ORIGINAL
				return nil
			})
			return nil
		})
		return nil
	})
	return attrs.Encode()
}
