package agent

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"
)

// telling is a store that tells of changes.
type telling chan struct{}

func (c telling) Watch(context.Context) (<-chan struct{}, error) { return c, nil }

func TestFollow_AStoreThatTellsAllTheTimeIsLookedAtNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := make(telling, 1)
		var told, restless atomic.Int32
		go follow(ctx, c, func() { told.Add(1) }, func() { restless.Add(1) })
		synctest.Wait()
		assert.Equal(t, told.Load(), int32(1), "what happened before the watch stood")
		time.Sleep(time.Second)
		c <- struct{}{}
		synctest.Wait()
		assert.Equal(t, told.Load(), int32(2), "at once")
		assert.Equal(t, restless.Load(), int32(0))

		time.Sleep(time.Second)
		for range 60 * 1000 {
			select {
			case c <- struct{}{}:
			default:
			}
			time.Sleep(time.Millisecond)
		}
		assert.Assert(t, told.Load() > burst && told.Load() < burst+25, "%d times in a minute", told.Load())
		assert.Equal(t, restless.Load(), int32(1))

		time.Sleep(time.Minute)
		before := told.Load()
		c <- struct{}{}
		synctest.Wait()
		assert.Equal(t, told.Load(), before+1, "at once again")
		cancel()
		close(c)
	})
}
