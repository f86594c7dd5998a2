package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Signals returns the signals that the engine has sent to a container since then, oldest
// first: because somebody stopped, restarted, killed or removed it, or because the engine
// itself ends and stops its containers. A process that ends by itself, that the kernel
// kills, or that the restart policy starts again gets none, and neither does one that is
// told something by [Client.Signal].
//
// The engine's memory is short: its last 256 events of any kind, and none from before its
// own start. It has noted a signal before it says that the container does not run.
func (c *Client) Signals(ctx context.Context, id string, since time.Time) ([]unix.Signal, error) {
	res := c.api.Events(ctx, client.EventsListOptions{
		Since:   timestamp(since),
		Until:   timestamp(time.Now()),
		Filters: make(client.Filters).Add("type", string(events.ContainerEventType)).Add("container", id).Add("event", string(events.ActionKill)),
	})
	var sent []unix.Signal
	for {
		select {
		case m := <-res.Messages:
			n, err := strconv.Atoi(m.Actor.Attributes["signal"])
			if err != nil {
				return nil, wrap("read the signals of", id, err)
			}
			sent = append(sent, unix.Signal(n))
		case err := <-res.Err:
			if errors.Is(err, io.EOF) { // the end of the answer
				return sent, nil
			}
			return nil, wrap("read the signals of", id, err)
		}
	}
}

// timestamp is a time as the engine reads it.
func timestamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
