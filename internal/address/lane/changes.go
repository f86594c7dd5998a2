package lane

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// settle is how long a change of the firewall is waited out: one change is many
// messages.
const settle = 50 * time.Millisecond

// sizeofNfgenmsg is that of struct nfgenmsg, linux/netfilter/nfnetlink.h, in bytes.
const sizeofNfgenmsg = 4

// firewallChanges tells, at most once for each settle, that rules, chains or tables of somebody
// else were deleted. It tells nothing when the kernel cannot be listened to.
func firewallChanges(ctx context.Context, log *slog.Logger) <-chan struct{} {
	changed := make(chan struct{}, 1)
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		err = c.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		log.Debug("changes of the firewall are not told", "error", err)
		return changed
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	go func() {
		var timer *time.Timer
		for {
			messages, err := c.Receive()
			lost := errors.Is(err, unix.ENOBUFS) // then anything may have changed
			if err != nil && !lost {
				if ctx.Err() == nil {
					log.Debug("changes of the firewall are not told any more", "error", err)
				}
				return
			}
			if !lost && !deletes(messages) {
				continue
			}
			if timer == nil {
				timer = time.AfterFunc(settle, func() {
					select {
					case changed <- struct{}{}:
					default: // one is waiting already
					}
				})
			} else {
				timer.Reset(settle)
			}
		}
	}()
	return changed
}

func deletes(messages []netlink.Message) bool {
	for _, m := range messages {
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
			if !ours(m) {
				return true
			}
		}
	}
	return false
}

// ours says whether a message is about the lane's table: the name of the table is the same
// attribute in all three kinds of messages.
func ours(m netlink.Message) bool {
	if len(m.Data) < sizeofNfgenmsg {
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[sizeofNfgenmsg:])
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_RULE_TABLE {
			return attrs.String() == Table
		}
	}
	return false
}
