package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/docker-secret-operator/dso/internal/private"
)

// The names under which systemd hands the sockets over (FileDescriptorName=).
const (
	runtimeSocketName = "runtime"
	peopleSocketName  = "people"
)

// Inherited are the sockets that systemd listens on for the agent, by name. They stay
// open: connections wait in them while no agent is there.
type Inherited map[string]*os.File

// InheritSockets takes what systemd has handed over, if it has.
func InheritSockets() Inherited {
	sockets := Inherited{}
	for _, f := range activation.Files(true) {
		sockets[f.Name()] = f
	}
	return sockets
}

// listener returns a listener on an inherited socket; nil when there is none.
func (in Inherited) listener(name string) (net.Listener, error) {
	f := in[name]
	if f == nil {
		return nil, nil
	}
	l, err := net.FileListener(f) // another descriptor: closing it leaves the socket
	if err != nil {
		return nil, fmt.Errorf("take the socket %s from systemd: %w", name, err)
	}
	return l, nil
}

const (
	// askEvery is how often a starting agent asks for more time, and moreTime how much.
	askEvery = 10 * time.Second
	moreTime = 60 * time.Second
)

// attend tells systemd that the agent lives, until ctx ends: more time to start while it
// waits for the engine, and then the watchdog. An agent that hangs tells nothing.
func (a *Agent) attend(ctx context.Context, isReady *atomic.Bool) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	every := askEvery
	if watchdog, err := daemon.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		every = min(every, watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	a.notify("STATUS=waits for the engine")
	for {
		if a.lives(every) {
			state := daemon.SdNotifyWatchdog
			if !isReady.Load() {
				state = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", moreTime.Microseconds())
			}
			a.notify(state)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lives reports whether the agent says so in time.
func (a *Agent) lives(within time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Alive()
	}()
	select {
	case <-done:
		return true
	case <-time.After(within):
		return false
	}
}

const msgSwappable = "this kernel has no noswap for tmpfs (it came with Linux 6.4): delivered values may be swapped out"

// mountPrivate mounts the private tmpfs where the engine sees it.
func (cfg Config) mountPrivate(dir string) (swappable bool, err error) {
	if cfg.OnHost {
		return private.MountOnHost(dir)
	}
	return private.Mount(dir)
}

// Prepare makes what must be there before an agent in a mount namespace of its own, and
// where the engine sees it too: the directories, the private tmpfs, and a layer over a
// state directory that cannot be written to.
func Prepare(cfg Config) error {
	for _, dir := range []string{cfg.StateDir, cfg.RunDir, cfg.LockDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	dir := filepath.Join(cfg.RunDir, "private")
	swappable, err := cfg.mountPrivate(dir)
	if swappable {
		cfg.Log.Warn(msgSwappable, "dir", dir)
	}
	if err != nil {
		return err
	}
	return cfg.coverReadOnly(dir)
}
