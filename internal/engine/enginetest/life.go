package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/engine"
)

// killed is the exit code of a process that got SIGKILL.
const killed = 137

// Start starts a container; one that runs already is a success.
func (e *Engine) Start(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Start")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if c.Running() {
		return after
	}
	e.note("start %s", c.Name)
	c.restarts = 0
	if err := e.start(c); err != nil {
		return err
	}
	return after
}

// start runs the process. The lock is held at the call and at the return, and
// not while OnStart runs.
func (e *Engine) start(c *entry) error {
	err := errors.Join(e.addressFree(c), e.networkRuns(c))
	var b Behaviour
	if hook := e.OnStart; err == nil && hook != nil {
		now := e.look(c)
		e.mu.Unlock()
		b, err = hook(now)
		e.mu.Lock()
	}
	if e.containers[c.ID] == nil {
		return fmt.Errorf("no such container: %s: %w", c.ID, errdefs.ErrNotFound)
	}
	c.started = true
	c.generation++
	if err != nil {
		c.State.Status, c.State.ExitCode, c.State.Error = container.StateExited, 128, err.Error()
		e.publish("die", c)
		return err
	}
	c.byHand = false
	c.State = engine.State{Status: container.StateRunning, Pid: 1000 + c.order, StartedAt: time.Now().UTC(), RestartCount: c.restarts}
	for net, ep := range c.Spec.Networks {
		ep.IPAddress = e.address(c, ep)
		end := c.Networks[net]
		end.Addresses = []netip.Addr{ep.IPAddress}
		c.Networks[net] = end
	}
	if b.HealthyAfter > 0 || b.UnhealthyAfter > 0 {
		c.State.Health = container.Starting
	}
	e.publish("start", c)
	e.live(c, b)
	return nil
}

// live sets the timers of the process's behaviour.
func (e *Engine) live(c *entry, b Behaviour) {
	e.later(c, b.HealthyAfter, func() { e.health(c, container.Healthy) })
	e.later(c, b.UnhealthyAfter, func() { e.health(c, container.Unhealthy) })
	e.later(c, b.ExitAfter, func() { e.ended(c, b.ExitCode) })
}

// later runs what after a while, unless the process ended before.
func (e *Engine) later(c *entry, after time.Duration, what func()) {
	if after <= 0 {
		return
	}
	generation := c.generation
	time.AfterFunc(after, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if c.generation == generation && e.containers[c.ID] == c {
			what()
		}
	})
}

func (e *Engine) health(c *entry, status container.HealthStatus) {
	c.State.Health = status
	e.publish("health_status: "+string(status), c)
}

// addressFree refuses a start whose static address another container has.
func (e *Engine) addressFree(c *entry) error {
	for net, ep := range c.Spec.Networks {
		if ep.IPAMConfig == nil || !ep.IPAMConfig.IPv4Address.IsValid() {
			continue
		}
		for _, other := range e.containers {
			if other != c && other.Running() && slices.Contains(other.Networks[net].Addresses, ep.IPAMConfig.IPv4Address) {
				return fmt.Errorf("address already in use: %w", errdefs.ErrInternal)
			}
		}
	}
	return nil
}

// networkRuns refuses a start in the network of a container that does not run.
func (e *Engine) networkRuns(c *entry) error {
	mode := c.Spec.HostConfig.NetworkMode
	if !mode.IsContainer() {
		return nil
	}
	if other := e.containers[mode.ConnectedContainer()]; other == nil || !other.Running() {
		return fmt.Errorf("cannot join network of a non running container: %s: %w", mode.ConnectedContainer(), errdefs.ErrConflict)
	}
	return nil
}

// ended is what the engine does when a process ends by itself.
func (e *Engine) ended(c *entry, code int) {
	e.halt(c, code)
	hc := c.Spec.HostConfig
	if hc.AutoRemove {
		e.delete(c)
		return
	}
	if !restarts(c) {
		return
	}
	c.State.Status = container.StateRestarting
	c.restarts++
	c.State.RestartCount = c.restarts
	e.later(c, min(100*time.Millisecond<<min(c.restarts, 10), time.Minute), func() { _ = e.start(c) })
}

// halt makes one container not run.
func (e *Engine) halt(c *entry, code int) {
	c.generation++
	c.State.Status, c.State.ExitCode, c.State.Pid, c.State.Health = container.StateExited, code, 0, ""
	for net, ep := range c.Spec.Networks {
		ep.IPAddress = netip.Addr{}
		end := c.Networks[net]
		end.Addresses = nil
		c.Networks[net] = end
	}
	e.publish("die", c)
}

func restarts(c *entry) bool {
	switch p := c.Spec.HostConfig.RestartPolicy; p.Name {
	case container.RestartPolicyAlways:
		return true
	case container.RestartPolicyUnlessStopped:
		return !c.byHand
	case container.RestartPolicyOnFailure:
		return c.State.ExitCode != 0 && (p.MaximumRetryCount == 0 || c.restarts < p.MaximumRetryCount)
	}
	return false
}

// told is halt for a container that is told to end.
func (e *Engine) told(c *entry, signal unix.Signal, code int) {
	e.tell(c, signal)
	e.halt(c, code)
}

func (e *Engine) tell(c *entry, signal unix.Signal) {
	e.session.sent = append(e.session.sent, sent{c.ID, time.Now(), signal})
	e.publish("kill", c)
}

// Tell is docker kill with a signal that the process does not end at.
func (e *Engine) Tell(id string, signal unix.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err := e.find(id); err == nil && c.Running() {
		e.tell(c, signal)
	}
}

// Signals returns the signals that a container was sent by the engine since then.
func (e *Engine) Signals(ctx context.Context, id string, since time.Time) ([]unix.Signal, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "Signals"); err != nil {
		return nil, err
	}
	var signals []unix.Signal
	for _, s := range e.session.sent {
		if s.id == id && s.at.After(since) {
			signals = append(signals, s.signal)
		}
	}
	return signals, nil
}

// Accepts fails from [Engine.ShutDown] to the next [Engine.RestartEngine].
func (e *Engine) Accepts(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin(ctx, "Accepts"); err != nil {
		return err
	}
	if e.session.ends {
		return fmt.Errorf("it takes no new connections: %w", errdefs.ErrUnavailable)
	}
	return nil
}

// Stop ends a container; one that does not run, or does not exist, is a success.
func (e *Engine) Stop(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Stop")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return after
	}
	if !c.Running() && c.State.Status != container.StateRestarting {
		return after
	}
	e.note("stop %s", c.Name)
	c.byHand = true
	if c.Running() {
		e.told(c, unix.SIGTERM, 0)
	} else {
		e.halt(c, 0)
	}
	if c.Spec.HostConfig.AutoRemove {
		e.delete(c)
	}
	return after
}

// Signal tells a container's process to read its files anew.
func (e *Engine) Signal(ctx context.Context, id, signal string) error {
	_, err := e.reload(ctx, "Signal", id, "signal %s "+signal, e.OnSignal)
	return err
}

// Exec runs a command in a container that tells its process to read its files anew.
func (e *Engine) Exec(ctx context.Context, id string, command []string) (code int, err error) {
	return e.reload(ctx, "Exec", id, "exec in %s: "+strings.Join(command, " "), e.OnExec)
}

func (e *Engine) reload(ctx context.Context, call, id, note string, hook func(engine.Container) Behaviour) (code int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, call)
	if err != nil {
		return 0, err
	}
	c, err := e.find(id)
	if err != nil {
		return 0, err
	}
	if !c.Running() {
		return 0, fmt.Errorf("container %s is not running: %w", c.Name, errdefs.ErrConflict)
	}
	e.note(note, c.Name)
	if hook == nil {
		return 0, after
	}
	now := e.look(c)
	e.mu.Unlock()
	b := hook(now)
	e.mu.Lock()
	if e.containers[c.ID] == nil || !c.Running() {
		return 0, fmt.Errorf("container %s is not running: %w", c.Name, errdefs.ErrConflict)
	}
	if call == "Exec" && b.ExitCode != 0 {
		return b.ExitCode, after // nothing has changed in the process
	}
	c.generation++ // what it would have become before does not come
	e.live(c, b)
	return 0, after
}

// Restart stops and starts a container.
func (e *Engine) Restart(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Restart")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return err
	}
	e.note("restart %s", c.Name)
	if c.Running() {
		e.told(c, unix.SIGTERM, 0)
	}
	c.restarts = 0
	if err := e.start(c); err != nil {
		return err
	}
	return after
}

// Remove deletes a container, killing it if it runs, and keeps its volumes. A
// missing one is a success.
func (e *Engine) Remove(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, err := e.begin(ctx, "Remove")
	if err != nil {
		return err
	}
	c, err := e.find(id)
	if err != nil {
		return after
	}
	e.note("remove %s", c.Name)
	e.delete(c)
	return after
}

func (e *Engine) delete(c *entry) {
	if c.Running() {
		e.told(c, unix.SIGKILL, killed)
	}
	delete(e.containers, c.ID)
	e.publish("destroy", c)
}

// Kill ends a container's process as the kernel would, so that its restart
// policy decides what follows.
func (e *Engine) Kill(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err := e.find(id); err == nil && c.Running() {
		e.ended(c, killed)
	}
}

// ShutDown is what dockerd does first when it is told to end: every container is
// stopped, and it still answers on the connections that it has.
func (e *Engine) ShutDown() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.session.ends = true
	for _, c := range e.sorted() {
		if c.Running() {
			e.told(c, unix.SIGTERM, 0)
		}
	}
}

// RestartEngine is what a restart of dockerd without live-restore does: every
// container ends, its event stream too, and those that have run before and whose
// policy says so start again. A start that fails is not tried again.
func (e *Engine) RestartEngine() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endSession()
	for _, c := range e.sorted() {
		if c.Running() || c.State.Status == container.StateRestarting {
			e.halt(c, killed)
		}
	}
	for _, c := range e.sorted() {
		if c.Spec.HostConfig.AutoRemove {
			e.delete(c)
			continue
		}
		if c.started && restarts(c) && c.State.Error == "" {
			c.restarts = 0
			_ = e.start(c)
		}
	}
}
