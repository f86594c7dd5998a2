package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Engine is what the machine needs of a Docker Engine.
type Engine interface {
	Inspect(ctx context.Context, id string) (engine.Container, error)
	List(ctx context.Context, labels ...string) ([]string, error)
	Create(ctx context.Context, name string, spec engine.Spec) (string, error)
	ConnectAll(ctx context.Context, id string, spec engine.Spec) error
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error
	Restart(ctx context.Context, id string) error
	Signal(ctx context.Context, id, signal string) error
	Exec(ctx context.Context, id string, command []string) (code int, err error)
	Signals(ctx context.Context, id string, since time.Time) ([]unix.Signal, error)
	Accepts(ctx context.Context) error
	Remove(ctx context.Context, id string) error
	Rename(ctx context.Context, id, name string) error
	SetRestartPolicy(ctx context.Context, id string, policy container.RestartPolicy) error
	Connect(ctx context.Context, id, networkName string, ep *network.EndpointSettings) error
	Disconnect(ctx context.Context, id, networkName string) error
	ImageID(ctx context.Context, name string) (string, error)
}

// Deliveries decides and knows which versions a container gets.
type Deliveries interface {
	// Pin makes every later start of the container use these versions, durably.
	// failed names the versions that are not to be tried again, if any.
	Pin(containerID string, versions, failed secret.Versions) error
	// Try makes every start of a replacement use these versions or fail.
	Try(containerID string, versions secret.Versions) error
	// Assign pins to the new versions of a change in place, and remembers the ones
	// before: should the journal be lost, they are what there is to go back to.
	Assign(containerID string, versions, before secret.Versions) error
	// Unpin makes the container follow the current versions again.
	Unpin(containerID string) error
	// Forget drops all that is kept for a container that no longer exists.
	Forget(containerID string) error
	// Delivered returns the versions that the container got at its last start,
	// and when that was.
	Delivered(containerID string) (secret.Versions, time.Time, bool)
	// Unread returns why the values of the container's last start could not be read; nil
	// when they could, or were not asked for.
	Unread(containerID string) error
	// Refresh writes the container's files anew, in one instant.
	Refresh(ctx context.Context, containerID string) error
}

// Fronts moves the traffic of services that have a front.
type Fronts interface {
	// Announce says that the container with short id to will soon take the place of from,
	// if all goes well: Replace is faster then.
	Announce(ctx context.Context, f Front, from, to string) error
	// Replace makes the front send new connections to the container with short
	// id to instead of from, and returns when the kernel does so.
	Replace(ctx context.Context, f Front, from, to string) error
	// Draining counts the established connections that still go to a container.
	Draining(ctx context.Context, f Front, c engine.Container) (int, error)
}

// Probe tells whether the container accepts TCP connections on a port.
type Probe func(ctx context.Context, c engine.Container, port uint16) error

// Check runs the container's own health check once; nil when it passes.
type Check func(ctx context.Context, c engine.Container) error

// Progress is one thing worth telling about a rotation.
type Progress struct {
	RotationID string      `json:"rotation"`
	Key        string      `json:"key"` // in the journal
	Container  string      `json:"container"`
	Secrets    []secret.ID `json:"secrets"`
	Strategy   Strategy    `json:"strategy"`
	Step       Step        `json:"step,omitempty"`
	Phase      Phase       `json:"phase"`
	Outcome    Outcome     `json:"outcome,omitempty"` // set on the last one
	Detail     string      `json:"detail,omitempty"`
	Time       time.Time   `json:"time"`
}

// About reports whether the rotation concerns the secret.
func (p Progress) About(id secret.ID) bool { return slices.Contains(p.Secrets, id) }

// ErrParked is returned when a rotation was left in the journal, at a step
// boundary, for the next agent.
var ErrParked = errors.New("rotation parked in the journal")

// Machine carries out rotations. All fields but the hooks are required.
type Machine struct {
	Engine     Engine
	Journal    *Journal
	Deliveries Deliveries
	Fronts     Fronts
	Probe      Probe
	Check      Check // optional
	Log        *slog.Logger
	// Observe is told about every step as it begins, and about the end.
	Observe func(Progress)
	// Fault, when set, is asked before and after every effect and after its
	// record (see [Points]); an error stands in for the effect's own. Only tests
	// set it.
	Fault func(point string) error
}

// Run carries the entry on from where it stands to its end. It returns nil when
// the rotation ended (see the entry's outcome), and an error wrapping
// [ErrParked] when ctx ended first.
func (m *Machine) Run(ctx context.Context, e *Entry) error {
	retry := newBackoff()
	raised := !e.Recovered
	for e.Pending() {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("%w at step %s: %w", ErrParked, e.Step, err)
		}
		m.tell(e, "")
		var err error
		if !raised {
			err = m.raise(ctx, e)
		}
		if err == nil {
			raised = true
			err = m.perform(ctx, e)
		}
		switch {
		case err == nil:
			retry = newBackoff()
			e.advance()
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			continue
		case engine.Unavailable(err):
			m.Log.Warn("rotation waits for the engine", "rotation", e.ID, "container", e.ContainerName, "step", e.Step, "error", err)
			retry.left = attempts // an engine may be away for as long as it likes
			raised = false        // it may have stopped its containers, and not remember that
			retry.wait(ctx)
			continue
		case !e.undoable():
			if m.divert(ctx, e, err) {
				retry = newBackoff()
				break
			}
			if !retry.wait(ctx) && ctx.Err() == nil {
				m.giveUp(e, err)
				break
			}
			m.Log.Warn("rotation step will be tried again", "rotation", e.ID, "container", e.ContainerName, "step", e.Step, "error", err)
			continue
		default:
			m.Log.Warn("rotation turns back", "rotation", e.ID, "container", e.ContainerName, "step", e.Step, "cause", err)
			e.turnBack(fmt.Errorf("%s: %w", e.Step, err))
		}
		if err := m.record(e); err != nil {
			return err
		}
	}
	m.tell(e, e.ErrorMessage)
	return nil
}

// Begin records a new rotation. Nothing has happened to any container before it
// returns nil.
func (m *Machine) Begin(e *Entry) error {
	e.Status = StatusInProgress
	e.Step = e.first()
	return m.record(e)
}

// Again records that a rotation which needed a person is carried on, by [Machine.Run].
func (m *Machine) Again(e *Entry) error {
	e.again()
	return m.record(e)
}

// Mark ends a rotation by a person's word. No container is touched; those that it
// held follow the current versions again.
func (m *Machine) Mark(e *Entry) error {
	for _, id := range e.ours() {
		if err := m.Deliveries.Unpin(id); err != nil {
			return err
		}
	}
	e.Step, e.StuckStep = "", ""
	e.Status, e.Outcome = StatusRecovered, OutcomeMarked
	if err := m.record(e); err != nil {
		return err
	}
	m.tell(e, e.ErrorMessage)
	return nil
}

func (m *Machine) record(e *Entry) error {
	e.LastUpdate = time.Now().UTC()
	if err := m.Journal.Save(*e); err != nil {
		return fmt.Errorf("record rotation %s: %w", e.ID, err)
	}
	return m.fault(e, Recorded)
}

// perform runs the effect of the entry's step under its deadline. Waits end with
// ctx; effects are finished, because a step boundary is the only place where a
// rotation may be left.
func (m *Machine) perform(ctx context.Context, e *Entry) error {
	if !waits(e.Step) {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline())
	defer cancel()
	if err := m.fault(e, Before); err != nil {
		return err
	}
	if err := effects[e.Step](m, ctx, e); err != nil {
		return err
	}
	return m.fault(e, After)
}

func waits(s Step) bool {
	return s == StepGate || s == StepGateOld || s == StepWatch || s == StepHandOver
}

func (m *Machine) fault(e *Entry, moment string) error {
	if m.Fault == nil {
		return nil
	}
	return m.Fault(e.point(moment).String())
}

// raise makes sure that the engine takes work, when it or this agent has come anew, and
// starts the serving container again if it is down: there may have been nobody to answer
// the engine's runtime, or it does not start that container again. Whether the container
// is any good is for the steps to find out.
func (m *Machine) raise(ctx context.Context, e *Entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), effectDeadline)
	defer cancel()
	if err := m.Engine.Accepts(ctx); err != nil {
		return err // it goes down, and what it starts now would be left half made
	}
	if !e.startedServing() {
		return nil
	}
	c, err := m.Engine.Inspect(ctx, e.serving())
	if err == nil && c.State.Status == container.StateExited {
		err = m.Engine.Start(ctx, c.ID)
	}
	if engine.Unavailable(err) {
		return err
	}
	if err != nil {
		m.Log.Warn("serving container not started again", "rotation", e.ID, "container", e.ContainerName, "error", err)
	}
	return nil
}

// giveUp ends a rotation that can go neither way. It is the only end that needs
// a person.
func (m *Machine) giveUp(e *Entry, cause error) {
	m.Log.Error("rotation needs a person", "rotation", e.ID, "container", e.ContainerName, "step", e.Step, "error", cause)
	e.ErrorMessage = fmt.Sprintf("%s: %v", e.Step, cause)
	e.Status, e.Outcome, e.StuckStep, e.Step = StatusCritical, OutcomeFailed, e.Step, ""
}

func (m *Machine) tell(e *Entry, detail string) {
	p := Progress{
		RotationID: e.ID, Key: e.Key(), Container: e.ContainerName, Secrets: e.To.IDs(), Strategy: e.Strategy,
		Step: e.Step, Phase: e.Phase, Outcome: e.Outcome, Detail: detail, Time: time.Now(),
	}
	if e.Pending() {
		m.Log.Info("rotation step", "rotation", e.ID, "container", e.ContainerName, "strategy", e.Strategy, "phase", e.Phase, "step", e.Step)
	} else {
		m.Log.Info("rotation ended", "rotation", e.ID, "container", e.ContainerName, "strategy", e.Strategy, "outcome", e.Outcome,
			"seconds", time.Since(e.StartTime).Seconds(), "error", e.ErrorMessage)
	}
	if m.Observe != nil {
		m.Observe(p)
	}
}

// attempts is how often a step that cannot be undone is tried.
const attempts = 50

// backoff spaces the attempts of one step: 200 ms doubling to 5 s, about four
// minutes in all.
type backoff struct {
	next time.Duration
	left int
}

func newBackoff() backoff { return backoff{next: 200 * time.Millisecond, left: attempts} }

// wait reports whether there is another attempt to make.
func (b *backoff) wait(ctx context.Context) bool {
	if b.left--; b.left < 0 {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(b.next):
	}
	b.next = min(2*b.next, 5*time.Second)
	return true
}
