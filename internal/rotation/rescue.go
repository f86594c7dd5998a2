package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// ours returns the ids of the containers of the rotation.
func (e *Entry) ours() []string {
	var ids []string
	for _, id := range []string{e.OriginalContainerID, e.NewContainerID, e.RecreatedID} {
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// turnTo begins a rescue.
func (e *Entry) turnTo(p Phase, cause error) {
	if e.ErrorMessage == "" || p != Yield {
		e.ErrorMessage = fmt.Sprintf("%s: %v", e.Step, cause)
	}
	e.turn(p)
}

// divert looks whether a step that has failed cannot succeed, because somebody
// removed the original or took its name, and decides what is done instead.
func (m *Machine) divert(ctx context.Context, e *Entry, cause error) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), effectDeadline)
	defer cancel()
	if len(programs[e.Strategy][Recreate]) == 0 {
		_, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
		return errdefs.IsNotFound(err) && m.gone(e)
	}
	if e.Phase != Yield && m.placeTaken(ctx, e) {
		m.Log.Warn("rotation yields: another container has the place", "rotation", e.ID, "container", e.ContainerName, "holder_id", engine.ShortID(e.HolderID))
		e.turnTo(Yield, fmt.Errorf("the name %s is taken by container %s", e.ContainerName, engine.ShortID(e.HolderID)))
		return true
	}
	switch {
	case e.Phase == Yield:
		return m.placeFree(e, cause)
	case errors.Is(cause, errTakenDown):
		return m.gone(e)
	case e.Phase == Recreate:
		return m.cannotRecreate(ctx, e, cause)
	case e.Phase == Adopt && (unfit(cause) || errors.Is(cause, ErrUnread) || errors.Is(cause, ErrStopped)):
		e.Unfit = unfit(cause)
		return m.missing(e, Recreate, cause)
	case !errdefs.IsNotFound(cause):
		return false
	}
	_, err := m.Engine.Inspect(ctx, e.OriginalContainerID)
	switch {
	case err == nil && e.Phase == Forward && e.Strategy == Rolling:
		m.Log.Warn("rotation turns back: the replacement was removed", "rotation", e.ID, "container", e.ContainerName, "step", e.Step)
		e.turnBack(fmt.Errorf("%s: %w", e.Step, cause))
		return true
	case !errdefs.IsNotFound(err):
		return false
	}
	return m.decide(ctx, e, cause)
}

// placeFree leads back when the container that had the place is gone again.
func (m *Machine) placeFree(e *Entry, cause error) bool {
	if e.Step != StepHandOver || !errdefs.IsNotFound(cause) {
		return false
	}
	e.HolderID = ""
	e.turnBack(fmt.Errorf("%s: %w", e.Step, cause))
	return true
}

// decide is about a rotation whose original is missing.
func (m *Machine) decide(ctx context.Context, e *Entry, cause error) bool {
	var c engine.Container
	err := fmt.Errorf("no replacement: %w", errdefs.ErrNotFound)
	if e.Strategy == Rolling {
		c, err = m.replacement(ctx, e)
	}
	switch {
	case err == nil && c.Label(label.Rotation) == e.ID:
		e.NewContainerID = c.ID
		if ok, _, err := m.healthy(ctx, c, e.Ports, ""); ok || err == nil && !e.Unfit {
			return m.missing(e, Adopt, cause)
		}
		return m.missing(e, Recreate, cause)
	case err != nil && !errdefs.IsNotFound(err):
		return false
	}
	// Neither is left. Who sees it happen respects it; an agent that finds it so
	// gives the place a container again, unless the whole project was taken down.
	if !e.Recovered || m.takenDown(ctx, e) {
		return m.gone(e)
	}
	if err := m.forget(e.NewContainerID); err != nil {
		return false
	}
	e.NewContainerID = ""
	return m.missing(e, Recreate, cause)
}

func (m *Machine) missing(e *Entry, to Phase, cause error) bool {
	m.Log.Warn("original container is missing", "rotation", e.ID, "container", e.ContainerName,
		"original_id", engine.ShortID(e.OriginalContainerID), "new_id", engine.ShortID(e.NewContainerID), "phase", to)
	e.turnTo(to, cause)
	return true
}

// takenDown reports whether nothing is left of the original's Compose project.
func (m *Machine) takenDown(ctx context.Context, e *Entry) bool {
	if e.Original.Project() == "" {
		return false
	}
	ids, err := m.Engine.List(ctx, engine.LabelComposeProject+"="+e.Original.Project())
	return err == nil && len(ids) == 0
}

// gone ends a rotation whose containers a person has removed.
func (m *Machine) gone(e *Entry) bool {
	for _, id := range e.ours() {
		if err := m.forget(id); err != nil {
			return false
		}
	}
	e.Status, e.Outcome, e.Step = StatusRecovered, OutcomeGone, ""
	return true
}

func (m *Machine) forget(id string) error {
	if id == "" {
		return nil
	}
	err := m.Deliveries.Forget(id)
	if err != nil {
		m.Log.Warn("delivery not forgotten", "container", engine.ShortID(id), "error", err)
	}
	return err
}

// placeTaken reports whether a container that is not the rotation's has the
// original's name, at a step that needs it.
func (m *Machine) placeTaken(ctx context.Context, e *Entry) bool {
	switch e.Step {
	case StepNameBack, StepNameReplacement, StepRecreate:
	default:
		return false
	}
	c, err := m.Engine.Inspect(ctx, e.ContainerName)
	if err != nil || c.Label(label.Rotation) == e.ID {
		return false
	}
	if slices.Contains(e.ours(), c.ID) {
		return false
	}
	e.HolderID = c.ID
	return true
}

// cannotRecreate is about the original's new self: it was removed again, or its
// image is gone.
func (m *Machine) cannotRecreate(ctx context.Context, e *Entry, cause error) bool {
	if !errdefs.IsNotFound(cause) {
		return false
	}
	if e.RecreatedID != "" {
		if _, err := m.Engine.Inspect(ctx, e.RecreatedID); !errdefs.IsNotFound(err) {
			return false
		}
		if err := m.removeReplacement(ctx, e); err != nil {
			m.Log.Warn("replacement not removed", "rotation", e.ID, "container", e.ContainerName, "error", err)
			return false
		}
		return m.gone(e)
	}
	if m.takenDown(ctx, e) {
		return m.gone(e)
	}
	image := e.Original.Spec.Config.Image
	for _, name := range []string{image, e.Original.ImageID} {
		if _, err := m.Engine.ImageID(ctx, name); !errdefs.IsNotFound(err) {
			return false
		}
	}
	m.Log.Error("CRITICAL: Original container is missing", "rotation", e.ID, "container", e.ContainerName,
		"original_id", engine.ShortID(e.OriginalContainerID), "new_id", engine.ShortID(e.NewContainerID),
		"image", image, "image_id", e.Original.ImageID, "command", "docker pull "+image+" && docker dso recover "+e.ContainerName)
	m.giveUp(e, fmt.Errorf("the image %s is gone, and the original with it: docker pull %s && docker dso recover %s", image, image, e.ContainerName))
	return true
}

// removalGrace is how long a person who removes one container of a rotation has
// for the other one: docker compose down removes them one after the other.
const removalGrace = 3 * time.Second

var errTakenDown = errors.New("the replacement was removed too")

// recreate makes the original again, of references only, under its own name.
func (m *Machine) recreate(ctx context.Context, e *Entry) error {
	var c engine.Container
	var err error
	if e.RecreatedID != "" {
		c, err = m.Engine.Inspect(ctx, e.RecreatedID)
	} else {
		c, err = m.marked(ctx, e)
	}
	if err != nil {
		return err
	}
	if c.ID != "" {
		e.RecreatedID = c.ID
		return m.Engine.ConnectAll(ctx, c.ID, c.Spec)
	}
	if err := m.makeRoom(ctx, e); err != nil {
		return err
	}
	spec, err := m.replacementSpec(ctx, e)
	if err != nil {
		return err
	}
	delete(spec.Config.Labels, label.Entry)
	e.RecreatedID, err = m.Engine.Create(ctx, e.ContainerName, spec)
	return err
}

// makeRoom takes the original's name off a replacement that is not fit for it, once
// it is clear that it is not being removed.
func (m *Machine) makeRoom(ctx context.Context, e *Entry) error {
	if e.NewContainerID == "" {
		return nil
	}
	select {
	case <-time.After(removalGrace):
	case <-ctx.Done():
		return ctx.Err()
	}
	err := m.rename(ctx, e.NewContainerID, e.NewName)
	if errdefs.IsNotFound(err) {
		return errTakenDown
	}
	return err
}

// marked finds the container that carries the rotation's mark and is not known
// yet: the original's new self or, before that is made, the replacement.
func (m *Machine) marked(ctx context.Context, e *Entry) (engine.Container, error) {
	ids, err := m.Engine.List(ctx, label.Rotation+"="+e.ID)
	if err != nil {
		return engine.Container{}, err
	}
	for _, id := range ids {
		if slices.Contains(e.ours(), id) {
			continue
		}
		c, err := m.Engine.Inspect(ctx, id)
		if err == nil || !errdefs.IsNotFound(err) {
			return c, err
		}
	}
	return engine.Container{}, nil
}

func (m *Machine) startOld(ctx context.Context, e *Entry) error {
	return m.Engine.Start(ctx, e.RecreatedID)
}

// handOver waits until the container that has the place is healthy, and gives it
// the front. One that does not become healthy has the place all the same.
func (m *Machine) handOver(ctx context.Context, e *Entry) error {
	if err := m.gate(ctx, e); err != nil {
		if engine.Unavailable(err) || errdefs.IsNotFound(err) || ctx.Err() != nil {
			return err
		}
		m.Log.Warn("the container that has the place is not healthy", "rotation", e.ID, "container", e.ContainerName, "error", err)
	}
	if e.Front == nil {
		return nil
	}
	for _, id := range e.ours() {
		if err := m.Fronts.Replace(ctx, *e.Front, engine.ShortID(id), engine.ShortID(e.HolderID)); err != nil {
			return err
		}
	}
	return nil
}
