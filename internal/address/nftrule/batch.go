package nftrule

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Send makes one object as a transaction of its own and returns the kernel's answer: for what
// google/nftables cannot say. kind is one of NFT_MSG_…, and flags are those beside a request's.
func Send(socket *netlink.Conn, kind netlink.HeaderType, flags netlink.HeaderFlags, family byte, attributes []byte) error {
	batch := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	_, err := socket.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: batch},
		{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Flags: netlink.Request | netlink.Acknowledge | flags},
			Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
		},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: batch},
	})
	if err == nil {
		_, err = socket.Receive()
	}
	return err
}
