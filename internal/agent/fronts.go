package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/address"
	"github.com/docker-secret-operator/dso/internal/address/frontimage"
	"github.com/docker-secret-operator/dso/internal/address/lane"
	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// applyDeadline bounds the wait for a front to apply a map. It takes about two
// milliseconds; a front that runs and does not is broken.
const applyDeadline = 5 * time.Second

// fronts joins the maps of the fronts with their containers.
type fronts struct {
	engine *engine.Client
	maps   *address.Fronts
	lane   *lane.Lane
	log    *slog.Logger
	dir    string
	binary string // path of dso-front

	turns sync.Map // of *sync.Mutex, by the front's key; see turn
}

// turn is held from reading a front's map to writing it, and to the lane's following it. Replicas
// may rotate at the same time, and each changes what the one before has left.
func (f *fronts) turn(key string) (over func()) {
	held, _ := f.turns.LoadOrStore(key, &sync.Mutex{})
	mu := held.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// Find returns the front of the container's Compose service.
func (f *fronts) Find(ctx context.Context, c engine.Container) (*rotation.Front, error) {
	if c.Project() == "" || c.Service() == "" {
		return nil, nil
	}
	ids, err := f.engine.List(ctx, engine.LabelComposeProject+"="+c.Project(), label.FrontService+"="+c.Service())
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return &rotation.Front{Key: c.Project() + "_" + c.Service(), ID: ids[len(ids)-1]}, nil
}

// Serve makes the front send new connections to the ready containers, and to
// those of the starting ones that it sends them to already. A front that is left
// with nobody keeps what it has: it finds a restarted container by itself.
func (f *fronts) Serve(ctx context.Context, front rotation.Front, ready, starting []string) error {
	err := f.change(front.Key, func(now []string) []string {
		for _, id := range starting {
			if slices.Contains(now, id) {
				ready = append(ready, id)
			}
		}
		if len(ready) == 0 {
			return now
		}
		return ready
	})
	if err = errors.Join(err, f.maps.Settle(front.Key)); err != nil {
		return err
	}
	c, err := f.engine.Inspect(ctx, front.ID)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f.follow(ctx, front.Key, c, f.look)
	return nil
}

// finder finds where a container of a front is; false: it cannot be reached.
type finder func(ctx context.Context, key, name string) (lane.Target, bool)

// look asks the engine.
func (f *fronts) look(ctx context.Context, _, name string) (lane.Target, bool) {
	c, err := f.engine.Inspect(ctx, name)
	if err != nil {
		return lane.Target{}, false
	}
	return targetAt(c)
}

// known asks the engine only for what the lane does not know: a switch shall not wait.
func (f *fronts) known(ctx context.Context, key, name string) (lane.Target, bool) {
	if t, ok := f.lane.Target(key, name); ok {
		return t, true
	}
	return f.look(ctx, key, name)
}

// follow lets the fast lane go where the front goes. Whatever does not work out
// takes the front.
func (f *fronts) follow(ctx context.Context, key string, front engine.Container, find finder) {
	defer f.lane.Sweep() // when the turn is over
	defer f.turn(key)()
	names, err := f.maps.Targets(key)
	if err != nil {
		f.log.Warn("fast lane does not follow", "front", key, "error", err)
	}
	f.lead(ctx, key, front, names, find)
}

// lead lets the fast lane go to the containers of those names.
func (f *fronts) lead(ctx context.Context, key string, front engine.Container, names []string, find finder) {
	if front.State.Status == container.StateRestarting {
		return // its ports are its own, and it is back in a moment: see ended
	}
	s := lane.Service{Front: front.State.Pid, Ended: func(ctx context.Context) { f.ended(ctx, key, front) }, Via: front.Addresses()}
	for _, p := range front.Published {
		proto := map[string]lane.Proto{"tcp": lane.TCP, "udp": lane.UDP}[p.Proto]
		s.Ports = append(s.Ports, lane.Port{Host: p.Host, Number: p.Number, Proto: proto, Inside: p.Inside})
	}
	if len(s.Ports) == 0 || !front.Running() {
		names = nil
	}
	for _, name := range names {
		if t, ok := find(ctx, key, name); ok {
			s.Targets = append(s.Targets, t)
		}
	}
	if len(s.Targets) > 0 && !f.lane.Knows(key) {
		s.Leaving = f.behind(ctx, front)
	}
	if err := f.lane.Set(key, s); err != nil {
		f.log.Warn("fast lane does not follow", "front", key, "error", err)
	}
}

// behind are all containers of the service that run. To those that are no targets the agent
// before may have sent what is still to be answered.
func (f *fronts) behind(ctx context.Context, front engine.Container) (all []lane.Target) {
	ids, err := f.engine.List(ctx, engine.LabelComposeProject+"="+front.Project(), label.Front+"="+front.Label(label.FrontService))
	if err == nil {
		var members []engine.Container
		members, err = engine.InspectAll(ctx, f.engine, ids)
		for _, c := range members {
			if t, ok := targetAt(c); ok {
				all = append(all, t)
			}
		}
	}
	if err != nil {
		f.log.Debug("containers behind a front not listed", "front", front.Name, "error", err)
	}
	return all
}

// targetAt is where the lane finds a container, if it can be reached.
func targetAt(c engine.Container) (t lane.Target, ok bool) {
	if !c.Running() {
		return t, false
	}
	addrs, err := address.Source(c.State.Pid)
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(c.Addresses(), a) })
	if err != nil || len(addrs) == 0 {
		return t, false
	}
	return lane.Target{Name: c.ShortID(), Pid: c.State.Pid, Addrs: addrs}, true
}

// The pauses between two looks at a front whose process has ended.
const (
	endedPoll = 50 * time.Millisecond
	awayPoll  = time.Second // while the engine does not answer: it starts and stops nothing then
)

// ended finds out what becomes of a front whose process, as it was, has ended. The engine starts one
// that has crashed again; until then the fast lane goes on as it is. One that somebody has
// stopped or removed publishes nothing any more.
func (f *fronts) ended(ctx context.Context, key string, was engine.Container) {
	for {
		c, err := f.engine.Inspect(ctx, was.ID)
		pause := endedPoll
		switch {
		case errdefs.IsNotFound(err):
			f.leave(key)
			return
		case err != nil:
			pause = awayPoll
		case c.Running() && c.State.Pid != was.State.Pid:
			f.follow(ctx, key, c, f.look)
			return
		case !c.Running() && c.State.Status != container.StateRestarting:
			f.leave(key)
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// leave takes the fast lane away from a front.
func (f *fronts) leave(key string) {
	if err := f.lane.Set(key, lane.Service{}); err != nil {
		f.log.Warn("fast lane does not follow", "front", key, "error", err)
	}
	f.lane.Sweep()
}

// change switches a front from its targets to others.
func (f *fronts) change(key string, to func(now []string) []string) error {
	defer f.turn(key)()
	now, err := f.maps.Targets(key)
	if err != nil {
		return err
	}
	if want := to(now); len(want) > 0 { // else there was no map, and a map would refuse
		_, err = f.maps.Switch(key, want)
	}
	return err
}

// changeBoth switches a front that runs and the fast lane, at the same time: the one waits for a
// disk and the other for the kernel. An agent that dies between them takes the lane with it.
func (f *fronts) changeBoth(ctx context.Context, key string, front engine.Container, to func(now []string) []string) (generation uint64, err error) {
	defer f.turn(key)()
	now, err := f.maps.Targets(key)
	if err != nil {
		return 0, err
	}
	want := to(slices.Clone(now))
	slices.Sort(want)
	var wg sync.WaitGroup
	wg.Go(func() { f.lead(ctx, key, front, want, f.known) })
	generation, err = f.maps.Switch(key, want)
	wg.Wait()
	if err != nil {
		f.lead(ctx, key, front, now, f.look)
	}
	return generation, err
}

func inPlaceOf(from, to string) func(now []string) []string {
	return func(now []string) []string {
		return append(slices.DeleteFunc(now, func(t string) bool { return t == from || t == to }), to)
	}
}

// Announce lets the front and the fast lane find out where to is, before it takes the place of
// from.
func (f *fronts) Announce(ctx context.Context, front rotation.Front, from, to string) error {
	if err := f.announce(front.Key, inPlaceOf(from, to)); err != nil {
		return err
	}
	c, err := f.engine.Inspect(ctx, to)
	if err != nil {
		return err
	}
	// An IPv6 address that the kernel still makes sure of is not used yet. Then the switch
	// looks again, as it does when the container cannot be reached.
	t, ok := targetAt(c)
	if ok = ok && hasIPv6(t.Addrs) == hasIPv6(c.Addresses()); !ok {
		return nil
	}
	return f.lane.Expect(front.Key, t)
}

func hasIPv6(addrs []netip.Addr) bool { return slices.ContainsFunc(addrs, netip.Addr.Is6) }

func (f *fronts) announce(key string, to func(now []string) []string) error {
	defer f.turn(key)()
	now, err := f.maps.Targets(key)
	if err != nil || len(now) == 0 {
		return err
	}
	return f.maps.Announce(key, to(now))
}

// Replace puts to in the place of from, and waits until the kernel does so. A
// front that does not run applies the map when it starts.
func (f *fronts) Replace(ctx context.Context, front rotation.Front, from, to string) error {
	c, err := f.engine.Inspect(ctx, front.ID)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if c.State.Status == container.StatePaused {
		if err := f.ordered(front, c, from, to); err != nil {
			return err
		}
	}
	if !c.Running() {
		return errors.Join(f.change(front.Key, inPlaceOf(from, to)), f.maps.Settle(front.Key))
	}
	defer f.lane.Sweep() // the switch does not wait for it
	decided := time.Now()
	generation, err := f.changeBoth(ctx, front.Key, c, inPlaceOf(from, to))
	if err = errors.Join(err, f.maps.Settle(front.Key)); err != nil {
		return err
	}
	f.log.Info("front switched", "front", front.Key, "generation", generation, "to", to, "decided", decided)
	ctx, cancel := context.WithTimeout(ctx, applyDeadline)
	defer cancel()
	err = address.WaitApplied(ctx, c.State.Pid, generation)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it ended meanwhile
	}
	return err
}

// ordered refuses a switch of a front that is paused, before it is ordered: the kernel goes on
// forwarding as it did and nobody tells it otherwise, so what the front leads to must not be
// stopped. An order that stands already is not refused, so that a rotation can go back.
func (f *fronts) ordered(front rotation.Front, c engine.Container, from, to string) error {
	now, err := f.maps.Targets(front.Key)
	if err != nil || slices.Contains(now, to) && !slices.Contains(now, from) {
		return err
	}
	return fmt.Errorf("its front %s is paused and cannot move the traffic (docker unpause %s)", c.Name, c.Name)
}

// Draining counts the established connections that the front, or the fast lane,
// still forwards to the container.
func (f *fronts) Draining(ctx context.Context, front rotation.Front, c engine.Container) (int, error) {
	direct, err := address.EstablishedHere(c.Addresses()...)
	if err != nil {
		return 0, err
	}
	fc, err := f.engine.Inspect(ctx, front.ID)
	if errdefs.IsNotFound(err) || err == nil && !fc.Running() {
		return direct, nil
	}
	if err != nil {
		return 0, err
	}
	forwarded, err := address.Established(fc.State.Pid, c.Addresses()...)
	return direct + forwarded, err
}

// EnsureImage loads the fronts' image into the engine unless it is there.
func (f *fronts) EnsureImage(ctx context.Context) (string, error) {
	binary, err := os.ReadFile(f.binary)
	if err != nil {
		return "", fmt.Errorf("read the front's program: %w", err)
	}
	tag := frontimage.Tag(binary)
	if _, err := f.engine.ImageID(ctx, tag); err == nil || !errdefs.IsNotFound(err) {
		return tag, err
	}
	archive, tag, err := frontimage.Tar(binary)
	if err != nil {
		return "", err
	}
	return tag, f.engine.LoadImage(ctx, archive)
}

// listening returns the TCP ports that a container accepts connections on.
func listening(c engine.Container) ([]uint16, error) {
	if c.State.Pid == 0 || c.Spec.HostConfig != nil && c.Spec.HostConfig.NetworkMode.IsHost() {
		return nil, nil
	}
	ports, err := address.Listening(c.State.Pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it ended meanwhile
	}
	if err != nil {
		return nil, err
	}
	var numbers []uint16
	for _, p := range ports {
		numbers = append(numbers, p.Number)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// probe succeeds when a process in the container's network accepts a connection
// on the port, on loopback or on one of the container's own addresses.
func probe(ctx context.Context, c engine.Container, port uint16) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var errs []error
	for _, addr := range append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, c.Addresses()...) {
		err := address.DialIn(ctx, c.State.Pid, netip.AddrPortFrom(addr, port))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
