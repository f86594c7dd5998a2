package address_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/address"
)

// sleeper starts a process in a namespace, as an application's PID 1 would be.
func (l *lab) sleeper(ns string) int {
	l.t.Helper()
	var cmd *exec.Cmd
	assert.NilError(l.t, l.in(ns, func() error {
		cmd = exec.Command("sleep", "60") // forked from this thread: born inside
		return cmd.Start()
	}))
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func TestListening_SeesThePortsOfTheContainer(t *testing.T) {
	l := newLab(t)
	ports, err := address.Listening(l.sleeper("a"))
	assert.NilError(t, err)
	assert.Equal(t, len(ports), 1)
	assert.Equal(t, ports[0].Number, uint16(8080))
	assert.Assert(t, ports[0].Addr.IsUnspecified())
	ports, err = address.Listening(l.sleeper("cl"))
	assert.NilError(t, err)
	assert.Equal(t, len(ports), 0)
}

func TestListening_TheKernelAndItsTablesSayTheSame(t *testing.T) {
	l := newLab(t)
	assert.NilError(t, l.in("a", func() error {
		for _, addr := range []string{"127.0.0.1:9091", "[::1]:9092", "[::]:9093"} {
			s, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			t.Cleanup(func() { s.Close() })
		}
		return nil
	}))
	asked, err := address.AskListening(l.sleeper("a"))
	assert.NilError(t, err)
	assert.Equal(t, len(asked), 4)
	read, err := address.ReadListening(l.sleeper("a"))
	assert.NilError(t, err)
	byNumber := func(a, b address.Port) int { return int(a.Number) - int(b.Number) }
	slices.SortFunc(asked, byNumber)
	slices.SortFunc(read, byNumber)
	assert.DeepEqual(t, asked, read, cmpopts.EquateComparable(netip.Addr{}))
}

func TestDialIn_ConnectsWhereOnlyTheContainerCan(t *testing.T) {
	l := newLab(t)
	assert.NilError(t, l.in("a", func() error {
		only, err := net.Listen("tcp", "127.0.0.1:9090")
		if err == nil {
			t.Cleanup(func() { only.Close() })
		}
		return err
	}))
	before, err := os.Readlink("/proc/self/ns/net")
	assert.NilError(t, err)
	a, b := l.sleeper("a"), l.sleeper("b")
	loopback := netip.MustParseAddrPort("127.0.0.1:9090")
	for range 50 { // often enough to have met the main thread
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		assert.NilError(t, address.DialIn(ctx, a, loopback))
		assert.ErrorIs(t, address.DialIn(ctx, b, loopback), syscall.ECONNREFUSED)
		cancel()
	}
	after, err := os.Readlink("/proc/self/ns/net")
	assert.NilError(t, err)
	assert.Equal(t, before, after, "the process has moved")
	eventually(t, "no thread is left in a foreign namespace", func() error { // a thread takes its time to end
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			if ns, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net"); err == nil && ns != before {
				return fmt.Errorf("thread %s is in %s", thread.Name(), ns)
			}
		}
		return nil
	})
}

func TestDialIn_EndsWithItsContext(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := address.DialIn(ctx, l.sleeper("a"), netip.AddrPortFrom(v4(99), 80))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestEstablished_LeavesOutWhatDidNotComeThroughTheFront(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-b")
	var direct net.Conn
	assert.NilError(t, l.in("fr", func() (err error) {
		direct, err = net.Dial("tcp", net.JoinHostPort(v4(hostB).String(), service))
		return err
	}))
	defer func() { _ = direct.Close() }()
	through, err := l.dial("tcp", v4(frontHost))
	assert.NilError(t, err)
	defer func() { _ = through.Close() }()
	assertEstablished(t, pid, hostB, 1)
	assertEstablished(t, pid, hostA, 0)
}

func TestApplied_SaysThatThereIsNoFrontYet(t *testing.T) {
	l := newLab(t)
	_, _, err := address.Applied(l.sleeper("fr"))
	assert.ErrorIs(t, err, address.ErrNotApplied)
}

func TestWaitApplied_EndsWhenTheFrontIsGone(t *testing.T) {
	l := withBoth(t)
	pid := l.start()
	l.order(pid, "app-a")
	result := make(chan error, 1)
	go func() { result <- address.WaitApplied(t.Context(), pid, 99) }()
	l.kill()
	assert.ErrorIs(t, <-result, fs.ErrNotExist)
}

func TestNetwork_OfAStoppedContainerIsNotTheHosts(t *testing.T) {
	_, _, err := address.Applied(0)
	assert.ErrorIs(t, err, os.ErrInvalid)
	_, err = address.Established(0, v4(hostA))
	assert.ErrorIs(t, err, os.ErrInvalid)
	assert.ErrorIs(t, address.DialIn(t.Context(), 0, netip.AddrPortFrom(v4(hostA), 1)), os.ErrInvalid)
}
