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
// connection tracking that is another one after each change-over: they begin a new flow, and
// the old one stays for the answers that it is owed.

// zoneChain is in the front's table of both families.
const zoneChain = "zone"

// setZone has what is sent to the front by UDP looked up in a zone from now on.
func (n *netfilter) setZone(zone uint16) error {
	t := n.rules.AddTable(&nftables.Table{Name: frontmap.Table, Family: nftables.TableFamilyINet})
	n.rules.AddChain(&nftables.Chain{
		Name: zoneChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, // before a flow is looked up
	})
	n.rules.FlushTable(t)
	if err := n.rules.Flush(); err != nil {
		return errors.Join(fmt.Errorf("make table of zones: %w", err), n.closeRules())
	}
	rule, err := zoneRule(zone)
	if err != nil {
		return err
	}
	if n.zones == nil {
		if n.zones, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			return fmt.Errorf("open netfilter: %w", err)
		}
	}
	err = nftrule.Send(n.zones, unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, unix.NFPROTO_INET, rule)
	if err != nil {
		return fmt.Errorf("set zone %d: %w", zone, err)
	}
	return nil
}

// zoneRule is "iifname != lo meta l4proto udp fib daddr type local ct original zone set ZONE".
// google/nftables writes no direction.
func zoneRule(zone uint16) ([]byte, error) {
	exprs := nftrule.Join(nftrule.Arriving(), nftrule.L4(unix.IPPROTO_UDP), nftrule.ToThisHost(),
		[]expr.Any{&expr.Immediate{Register: unix.NFT_REG_1, Data: binaryutil.NativeEndian.PutUint16(zone)}})
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
