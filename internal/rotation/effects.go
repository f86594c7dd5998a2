package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// effects maps every step to what it does. Each may be run again at any time
// after it has been run, wholly or in part.
var effects map[Step]func(*Machine, context.Context, *Entry) error

func init() {
	effects = map[Step]func(*Machine, context.Context, *Entry) error{
		StepHold:              (*Machine).hold,
		StepCreate:            (*Machine).create,
		StepAssign:            (*Machine).assign,
		StepStart:             (*Machine).start,
		StepGate:              (*Machine).gate,
		StepCutOver:           (*Machine).cutOver,
		StepPark:              (*Machine).park,
		StepWatch:             (*Machine).watch,
		StepNameOriginal:      (*Machine).nameOriginal,
		StepNameReplacement:   (*Machine).nameReplacement,
		StepStop:              (*Machine).stop,
		StepRemove:            (*Machine).remove,
		StepRelease:           (*Machine).release,
		StepRestart:           (*Machine).restart,
		StepDependants:        (*Machine).dependants,
		StepRefresh:           (*Machine).refresh,
		StepRevive:            (*Machine).revive,
		StepCutBack:           (*Machine).cutBack,
		StepNameBack:          (*Machine).nameBack,
		StepRemoveReplacement: (*Machine).removeReplacement,
		StepUnpark:            (*Machine).unpark,
		StepPin:               (*Machine).pin,
		StepRestartOld:        (*Machine).restart,
		StepGateOld:           (*Machine).gateOld,
		StepRefreshOld:        (*Machine).refreshOld,
		StepSettle:            (*Machine).settle,
		StepRecreate:          (*Machine).recreate,
		StepStartOld:          (*Machine).startOld,
		StepHandOver:          (*Machine).handOver,
		StepSignal:            (*Machine).signal,
		StepSignalOld:         (*Machine).signal,
		StepExec:              (*Machine).exec,
		StepExecOld:           (*Machine).exec,
	}
}

// serving is the container that has the place when the entry's phase ends.
func (e *Entry) serving() string {
	switch {
	case e.Phase == Recreate:
		return e.RecreatedID
	case e.Phase == Yield:
		return e.HolderID
	case e.Phase == Adopt, e.Phase == Forward && e.Strategy == Rolling:
		return e.NewContainerID
	}
	return e.OriginalContainerID
}

func (m *Machine) hold(_ context.Context, e *Entry) error {
	return m.Deliveries.Pin(e.OriginalContainerID, e.From, nil)
}

func (m *Machine) create(ctx context.Context, e *Entry) error {
	spec, err := m.replacementSpec(ctx, e)
	if err != nil {
		return err
	}
	c, err := m.replacement(ctx, e)
	switch {
	case err == nil && c.Label(label.Rotation) == e.ID:
		e.NewContainerID = c.ID
		return m.Engine.ConnectAll(ctx, c.ID, spec)
	case err == nil:
		return fmt.Errorf("the name %s is taken by container %s, which is not ours", e.NewName, c.ShortID())
	case !errdefs.IsNotFound(err):
		return err
	}
	// What a person removed before anything of ours was there is not brought back.
	if _, err := m.Engine.Inspect(ctx, e.OriginalContainerID); err != nil {
		return err
	}
	e.NewContainerID, err = m.Engine.Create(ctx, e.NewName, spec)
	return err
}

// replacement finds the rotation's replacement: by its id when that is known, for
// its name may have changed, otherwise by the name it was to get, or by the
// rotation's mark on it.
func (m *Machine) replacement(ctx context.Context, e *Entry) (engine.Container, error) {
	if e.NewContainerID != "" {
		if c, err := m.Engine.Inspect(ctx, e.NewContainerID); err == nil || !errdefs.IsNotFound(err) {
			return c, err
		}
	}
	c, err := m.Engine.Inspect(ctx, e.NewName)
	if err == nil && c.Label(label.Rotation) == e.ID || err != nil && !errdefs.IsNotFound(err) {
		return c, err
	}
	marked, findErr := m.marked(ctx, e)
	if findErr != nil || marked.ID != "" {
		return marked, findErr
	}
	return c, err
}

// replacementSpec is a function of the journal's entry alone, but for the
// question whether the image's name still means the image.
func (m *Machine) replacementSpec(ctx context.Context, e *Entry) (engine.Spec, error) {
	image := e.Original.ImageID
	id, err := m.Engine.ImageID(ctx, e.Original.Spec.Config.Image)
	if err != nil && !errdefs.IsNotFound(err) {
		return engine.Spec{}, err
	}
	if id == image {
		image = e.Original.Spec.Config.Image
	}
	spec, err := Replacement(e.Original, e.ID, image, e.Front != nil)
	if err != nil {
		return spec, err
	}
	spec.Config.Labels[label.Entry], err = e.label()
	return spec, err
}

func (m *Machine) assign(_ context.Context, e *Entry) error {
	if e.Strategy == Rolling {
		return m.Deliveries.Try(e.serving(), e.To)
	}
	return m.Deliveries.Assign(e.serving(), e.To, e.From)
}

func (m *Machine) start(ctx context.Context, e *Entry) error {
	return m.refusedStart(ctx, e.NewContainerID, m.Engine.Start(ctx, e.NewContainerID))
}

// ErrRefused is wrapped when the engine, or the runtime below it, refuses to start
// a container: most often it is for what the container is given.
var ErrRefused = errors.New("the start was refused")

// ErrUnread is wrapped when a start was refused because a store did not give a value. That
// says nothing about the versions.
var ErrUnread = errors.New("not started, as its values could not be read")

func (m *Machine) refusedStart(ctx context.Context, id string, err error) error {
	if err == nil || engine.Unavailable(err) || errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if unread := m.Deliveries.Unread(id); unread != nil {
		return fmt.Errorf("%w: %w", ErrUnread, unread)
	}
	if gone := m.Engine.Accepts(ctx); gone != nil {
		return gone // an engine that goes down refuses for its own sake
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

func (m *Machine) cutOver(ctx context.Context, e *Entry) error {
	if e.Front == nil {
		return nil
	}
	return m.Fronts.Replace(ctx, *e.Front, engine.ShortID(e.OriginalContainerID), engine.ShortID(e.NewContainerID))
}

func (m *Machine) cutBack(ctx context.Context, e *Entry) error {
	if e.Front == nil {
		return nil
	}
	for _, id := range e.ours() {
		if id == e.serving() {
			continue
		}
		if err := m.Fronts.Replace(ctx, *e.Front, engine.ShortID(id), engine.ShortID(e.serving())); err != nil {
			return err
		}
	}
	return nil
}

// revive makes the original run with the versions it had: an engine that restarts
// does not start what is parked, and starts what was not yet held with the
// versions that are current.
func (m *Machine) revive(ctx context.Context, e *Entry) error {
	c, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	if err != nil {
		return err
	}
	if !c.Running() {
		return m.Engine.Start(ctx, c.ID)
	}
	if got, _, known := m.Deliveries.Delivered(c.ID); known && !got.Equal(e.From) {
		return m.Engine.Restart(ctx, c.ID)
	}
	return nil
}

// park takes the original's restart policy away: an engine that restarts would
// start it again beside the replacement, even after it was stopped. A container
// without a policy stays as it is: the engine refuses to change one made with
// --rm, which cannot have a policy.
func (m *Machine) park(ctx context.Context, e *Entry) error {
	if policy := e.policy(); policy.IsNone() {
		return nil
	}
	// The engine refuses to change a container that somebody stops, restarts or
	// removes at this moment. That says nothing against the replacement.
	for try := 1; ; try++ {
		err := ignoreGone(m.Engine.SetRestartPolicy(ctx, e.OriginalContainerID, container.RestartPolicy{Name: container.RestartPolicyDisabled}))
		if err == nil || engine.Unavailable(err) || try == parkTries {
			return err
		}
		select {
		case <-time.After(parkPause):
		case <-ctx.Done():
			return err
		}
	}
}

// How often, and after which pause, park asks again.
const (
	parkTries = 20
	parkPause = 200 * time.Millisecond
)

func (m *Machine) unpark(ctx context.Context, e *Entry) error {
	if policy := e.policy(); policy.IsNone() {
		return nil
	}
	return m.Engine.SetRestartPolicy(ctx, e.OriginalContainerID, e.policy())
}

func (m *Machine) nameOriginal(ctx context.Context, e *Entry) error {
	return ignoreGone(m.rename(ctx, e.OriginalContainerID, e.BackupName))
}

func (m *Machine) nameReplacement(ctx context.Context, e *Entry) error {
	return m.rename(ctx, e.NewContainerID, e.ContainerName)
}

func (m *Machine) nameBack(ctx context.Context, e *Entry) error {
	if e.NewContainerID != "" {
		if err := ignoreGone(m.rename(ctx, e.NewContainerID, e.NewName)); err != nil {
			return err
		}
	}
	return m.rename(ctx, e.OriginalContainerID, e.ContainerName)
}

// rename gives the container a name that it may have already.
func (m *Machine) rename(ctx context.Context, id, name string) error {
	c, err := m.Engine.Inspect(ctx, id)
	if err != nil || c.Name == name {
		return err
	}
	return m.Engine.Rename(ctx, id, name)
}

// holdsPlace fails when there is no container to leave the place to. It is asked
// right before one of the two is stopped, and before it is removed.
func (m *Machine) holdsPlace(ctx context.Context, e *Entry) error {
	if e.Phase != Forward && e.Phase != Back {
		return nil
	}
	_, err := m.Engine.Inspect(ctx, e.serving())
	return err
}

func (m *Machine) stop(ctx context.Context, e *Entry) error {
	if err := m.holdsPlace(ctx, e); err != nil {
		return err
	}
	return m.Engine.Stop(ctx, e.OriginalContainerID)
}

func (m *Machine) remove(ctx context.Context, e *Entry) error {
	if err := m.holdsPlace(ctx, e); err != nil {
		return err
	}
	if e.Recovered && e.Phase != Adopt && e.Phase != Recreate {
		m.Log.Info("Removing orphaned backup container", "backup_id", engine.ShortID(e.OriginalContainerID))
	}
	if err := m.Engine.Remove(ctx, e.OriginalContainerID); err != nil {
		return err
	}
	return m.Deliveries.Forget(e.OriginalContainerID)
}

// removeReplacement also finds a replacement whose creation was not recorded.
func (m *Machine) removeReplacement(ctx context.Context, e *Entry) error {
	if e.NewContainerID == "" {
		if e.Strategy != Rolling {
			return nil
		}
		c, err := m.replacement(ctx, e)
		if errdefs.IsNotFound(err) || err == nil && c.Label(label.Rotation) != e.ID {
			return nil
		}
		if err != nil {
			return err
		}
		e.NewContainerID = c.ID
	}
	if err := m.holdsPlace(ctx, e); err != nil {
		return err
	}
	if e.Recovered {
		m.Log.Info("Removing orphaned new container", "new_id", engine.ShortID(e.NewContainerID))
	}
	if err := ignoreGone(m.Engine.Stop(ctx, e.NewContainerID)); err != nil {
		return err
	}
	if err := m.Engine.Remove(ctx, e.NewContainerID); err != nil {
		return err
	}
	return m.Deliveries.Forget(e.NewContainerID)
}

func (m *Machine) release(_ context.Context, e *Entry) error {
	return m.Deliveries.Unpin(e.serving())
}

// pin keeps the old versions for the way back, and when the new ones are why it is
// gone, until the secret changes again.
func (m *Machine) pin(_ context.Context, e *Entry) error {
	var failed secret.Versions
	if e.Unfit {
		failed = e.To
	}
	return m.Deliveries.Pin(e.serving(), e.From, failed)
}

// settle lets the container follow the current versions again when these are not
// why the rotation turned back.
func (m *Machine) settle(_ context.Context, e *Entry) error {
	if e.Unfit {
		return nil
	}
	return m.Deliveries.Unpin(e.serving())
}

// restart restarts in place, unless the container already runs since with the
// versions that this direction of the rotation is about.
func (m *Machine) restart(ctx context.Context, e *Entry) error {
	want := e.To
	if e.Phase == Back {
		want = e.From
	}
	id := e.OriginalContainerID
	if got, at, ok := m.Deliveries.Delivered(id); ok && got.Equal(want) && at.After(e.StartTime) {
		c, err := m.Engine.Inspect(ctx, id)
		if err != nil || c.Running() {
			return err
		}
	}
	return m.refusedStart(ctx, id, m.Engine.Restart(ctx, id))
}

// dependants restarts what lives in the container's network: the restart took
// its interfaces away. One that started after the container has them already.
func (m *Machine) dependants(ctx context.Context, e *Entry) error {
	main, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	if err != nil || !main.Running() {
		return err // a person stopped it: what lives in its network waits for it
	}
	for _, id := range e.Dependants {
		c, err := m.Engine.Inspect(ctx, id)
		if errdefs.IsNotFound(err) || err == nil && c.State.StartedAt.After(main.State.StartedAt) {
			continue
		}
		if err != nil {
			return err
		}
		if err := m.Engine.Restart(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// refresh changes the files, and makes sure that what they got is what this
// direction of the rotation is about.
func (m *Machine) refresh(ctx context.Context, e *Entry) error {
	if err := m.Deliveries.Refresh(ctx, e.OriginalContainerID); err != nil {
		return err
	}
	if got, _, _ := m.Deliveries.Delivered(e.OriginalContainerID); e.Phase == Forward && !got.Equal(e.To) {
		return errors.New("the container is held to other versions")
	}
	return nil
}

// refreshOld changes the files back. It pins once more: the generation of the
// journal that led here may be older than the last unpinning.
func (m *Machine) refreshOld(ctx context.Context, e *Entry) error {
	if err := m.pin(ctx, e); err != nil {
		return err
	}
	return m.refresh(ctx, e)
}

// ErrReload is wrapped when a container does not take the new files.
var ErrReload = errors.New("the container does not take the new files")

// signal tells the process to read its files anew. One that does not run reads them
// when it starts.
func (m *Machine) signal(ctx context.Context, e *Entry) error {
	c, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	if err != nil {
		return err
	}
	if !c.Running() {
		return m.refusedStart(ctx, c.ID, m.Engine.Start(ctx, c.ID))
	}
	return m.Engine.Signal(ctx, c.ID, e.Signal)
}

// exec does so by a command. That it fails is the new versions' fault; with the ones
// before, the gate says whether the container is any good.
func (m *Machine) exec(ctx context.Context, e *Entry) error {
	c, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	if err != nil {
		return err
	}
	if !c.Running() {
		return m.refusedStart(ctx, c.ID, m.Engine.Start(ctx, c.ID))
	}
	runCtx, cancel := context.WithTimeout(ctx, e.Timing.Health)
	defer cancel()
	code, err := m.Engine.Exec(runCtx, c.ID, e.Command)
	switch {
	case err != nil && errors.Is(runCtx.Err(), context.DeadlineExceeded) && ctx.Err() == nil:
		err = fmt.Errorf("%w: its command did not end within %s", ErrReload, e.Timing.Health)
	case err == nil && code != 0:
		err = fmt.Errorf("%w: its command ended with exit code %d", ErrReload, code)
	}
	if e.Phase == Back && errors.Is(err, ErrReload) {
		m.Log.Warn("the command fails with the versions before too", "rotation", e.ID, "container", e.ContainerName, "error", err)
		return nil
	}
	return m.verdict(ctx, c, err)
}

// The health gate looks this often, and without a health check wants the
// container up for at least minUp.
const (
	gateInterval = 100 * time.Millisecond
	minUp        = 2 * time.Second
)

// ErrUnhealthy is wrapped when a container fails its health gate.
var ErrUnhealthy = errors.New("the container did not become healthy")

// gate waits until the serving container is healthy.
func (m *Machine) gate(ctx context.Context, e *Entry) error {
	if e.Front != nil && e.serving() == e.NewContainerID {
		if err := m.Fronts.Announce(ctx, *e.Front, engine.ShortID(e.OriginalContainerID), engine.ShortID(e.NewContainerID)); err != nil {
			m.Log.Warn("switch not announced to the front", "front", e.Front.Key, "error", err)
		}
	}
	return m.await(ctx, e.serving(), e.Timing.Health, e.Ports, e.seen())
}

// AwaitHealthy waits until a container that runs passes the gate of a rotation.
func (m *Machine) AwaitHealthy(ctx context.Context, c engine.Container) error {
	timing, err := TimingOf(c)
	if err != nil {
		return err
	}
	return m.await(ctx, c.ID, timing.Health, nil, "")
}

// seen is what the engine said before the process was told to read its files anew, and
// says on until it looks again; empty: nothing of the kind.
func (e *Entry) seen() container.HealthStatus {
	switch {
	case !e.reloads():
		return ""
	case e.Phase == Back: // the new versions may have made it so
		return container.Unhealthy
	}
	return e.Original.State.Health
}

// await waits until a container is healthy, for at most the given time; seen is what
// the engine may say of it although it is no longer so.
func (m *Machine) await(ctx context.Context, id string, longest time.Duration, ports []uint16, seen container.HealthStatus) error {
	waitCtx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var last engine.Container
	var why string
	for {
		c, err := m.Engine.Inspect(waitCtx, id)
		if err == nil {
			var healthy bool
			if healthy, why, err = m.healthy(waitCtx, c, ports, seen); healthy || err != nil {
				return m.verdict(ctx, c, err)
			}
			last = c
		}
		if err != nil && waitCtx.Err() == nil {
			return err
		}
		select {
		case <-time.After(gateInterval):
		case <-waitCtx.Done():
			if err := ctx.Err(); err != nil {
				return err
			}
			if why == "" { // nothing against the container
				return fmt.Errorf("the engine does not tell within %s how the container is: %w", longest, waitCtx.Err())
			}
			return m.verdict(ctx, last, fmt.Errorf("%w within %s: %s", ErrUnhealthy, longest, why))
		}
	}
}

// gateOld also starts the container when it was stopped meanwhile: the rotation
// owes its place a container that runs.
func (m *Machine) gateOld(ctx context.Context, e *Entry) error {
	c, err := m.Engine.Inspect(ctx, e.serving())
	if err == nil && c.State.Status == container.StateExited {
		err = m.Engine.Start(ctx, c.ID)
	}
	if err != nil {
		return err
	}
	return m.gate(ctx, e)
}

// healthy judges one look at a container. An error means that it cannot become
// healthy any more; why says what is still missing.
func (m *Machine) healthy(ctx context.Context, c engine.Container, ports []uint16, seen container.HealthStatus) (ok bool, why string, err error) {
	if err := alive(c); err != nil {
		return false, "", err
	}
	switch m.health(ctx, c, seen) {
	case container.Healthy:
		return true, "", nil
	case container.Unhealthy:
		return false, "", fmt.Errorf("%w: its health check says unhealthy", ErrUnhealthy)
	case container.Starting:
		return false, "its health check has not passed yet", nil
	}
	if up := time.Since(c.State.StartedAt); up < minUp {
		return false, fmt.Sprintf("it is up for %s of %s", up.Round(time.Millisecond), minUp), nil
	}
	for _, port := range ports {
		if err := m.Probe(ctx, c, port); err != nil {
			return false, fmt.Sprintf("it does not accept connections on port %d, as the one before did", port), nil
		}
	}
	return true, "", nil
}

// health is what the engine says. While it has not looked yet, the same check is
// run here: the engine waits for a whole interval, often half a minute, before it
// looks for the first time. And what it has seen of a process that was told to read
// its files anew may be from before that.
func (m *Machine) health(ctx context.Context, c engine.Container, seen container.HealthStatus) container.HealthStatus {
	says := c.State.Health
	switch {
	case says == "" || m.Check == nil || says != container.Starting && seen == "":
	case m.Check(ctx, c) == nil:
		return container.Healthy
	case says == container.Healthy, says == seen:
		return container.Starting
	}
	return says
}

func alive(c engine.Container) error {
	switch {
	case c.State.Status == container.StateRestarting, c.State.RestartCount > 0 && !c.Running():
		return fmt.Errorf("%w: it ended with exit code %d and is being restarted", ErrUnhealthy, c.State.ExitCode)
	case !c.Running():
		return fmt.Errorf("%w: it is %s, exit code %d", ErrUnhealthy, c.State.Status, c.State.ExitCode)
	}
	return nil
}

// watch keeps an eye on the container that serves now for the monitor time, and waits
// until no connection is left on an original beside it or the drain time is over. One
// that started again meanwhile must become healthy once more.
func (m *Machine) watch(ctx context.Context, e *Entry) error {
	begun := time.Now()
	for {
		c, err := m.Engine.Inspect(ctx, e.serving())
		if err != nil {
			return err
		}
		if err := alive(c); err != nil {
			return m.verdict(ctx, c, err)
		}
		passed := time.Since(begun)
		health := c.State.Health
		if passed >= e.Timing.Monitor || health == container.Unhealthy {
			health = m.health(ctx, c, e.seen())
		}
		if health == container.Unhealthy {
			return m.verdict(ctx, c, fmt.Errorf("%w: its health check says unhealthy", ErrUnhealthy))
		}
		starting := health == container.Starting && passed >= e.Timing.Monitor
		looked := time.Now()
		switch {
		case starting && passed >= max(e.Timing.Health, e.Timing.Monitor):
			return m.verdict(ctx, c, fmt.Errorf("%w again within %s", ErrUnhealthy, passed.Round(time.Second)))
		case !starting && passed >= e.Timing.Monitor && (passed >= e.Timing.Monitor+e.Timing.Drain || m.drained(ctx, e)):
			return nil
		}
		// To count the connections the host's whole table is read: where it is long, seldom.
		select {
		case <-time.After(max(gateInterval, lookShare*time.Since(looked))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lookShare keeps the counting of connections to a fifth of the time at most.
const lookShare = 4

// drained reports whether the original has no connection left. When that cannot
// be told the drain time is waited out; it is no reason to go back.
func (m *Machine) drained(ctx context.Context, e *Entry) bool {
	if e.Front == nil || e.serving() == e.OriginalContainerID {
		return true
	}
	c, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	if errdefs.IsNotFound(err) {
		return true
	}
	left := 0
	if err == nil {
		left, err = m.Fronts.Draining(ctx, *e.Front, c)
	}
	if err != nil {
		m.Log.Debug("connections not counted", "rotation", e.ID, "container", e.ContainerName, "error", err)
		return false
	}
	return left == 0
}

func ignoreGone(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
