package front

import (
	"encoding/binary"
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sendNoRedirects tells every device not to send ICMP redirects. What a front forwards leaves by
// the device that it came by, so the kernel would think of one for each packet. A container
// cannot write to /proc/sys, but it may ask the kernel (CAP_NET_ADMIN). A refusal shows in the
// value, and costs time only.
func sendNoRedirects() {
	devices, _ := net.Interfaces()
	socket, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return
	}
	for _, d := range devices {
		_ = setDeviceOption(socket, d.Index, optionSendRedirects, 0)
	}
	_ = socket.Close()
}

// optionSendRedirects is IPV4_DEVCONF_SEND_REDIRECTS of linux/ip.h: net.ipv4.conf.*.send_redirects.
const optionSendRedirects = 6

// setDeviceOption sets what /proc/sys/net/ipv4/conf has for a device, as rtnetlink(7) has it.
func setDeviceOption(socket *netlink.Conn, index int, option uint16, value uint32) error {
	const inetConf = 1 // IFLA_INET_CONF of linux/if_link.h
	attrs := netlink.NewAttributeEncoder()
	attrs.Nested(unix.IFLA_AF_SPEC, func(families *netlink.AttributeEncoder) error {
		families.Nested(unix.AF_INET, func(inet *netlink.AttributeEncoder) error {
			inet.Nested(inetConf, func(conf *netlink.AttributeEncoder) error {
				conf.Uint32(option, value)
				return nil
			})
			return nil
		})
		return nil
	})
	encoded, err := attrs.Encode()
	if err != nil {
		return err
	}
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(index)) //nolint:gosec // ifi_index, the kernel's own number
	_, err = socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_SETLINK, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, encoded...),
	})
	return err
}
