package hostsetup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Unfinished undoes what a setup left that was cut off. It reports whether there was
// something. One after which containers were made that need the runtime stands, and the
// next plan adds what it did not come to.
func (h *Host) Unfinished(ctx context.Context) (bool, error) {
	r, err := h.loadRecord()
	if err != nil || r == nil || r.Complete {
		return false, err
	}
	users, err := h.usersOf(ctx)
	if err != nil {
		return false, err
	}
	if len(users) > 0 {
		r.settle()
		return false, h.saveRecord(r)
	}
	return true, h.undoFrom(ctx, r, r.Begun)
}

// undoFrom undoes the steps from a number on, the last one first. A step that cannot be
// undone stays in the record, and does not keep the others from being undone.
func (h *Host) undoFrom(ctx context.Context, r *Record, from int) error {
	var errs []error
	for i := len(r.Steps) - 1; i >= from; i-- {
		if err := h.undo(ctx, r, i); err != nil {
			errs = append(errs, fmt.Errorf("undo: %s: %w", r.Steps[i].What, err))
			continue
		}
		r.Steps = slices.Delete(r.Steps, i, i+1)
		if err := h.saveRecord(r); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(r.Steps) == 0 {
		return h.forgetRecord(r)
	}
	r.Complete = true
	return h.saveRecord(r)
}

// InUseError says which containers need the runtime.
type InUseError struct{ Containers []string }

func (e *InUseError) Error() string {
	return fmt.Sprintf("%d containers have the runtime %s and could not start without it: %s", len(e.Containers), RuntimeName, strings.Join(e.Containers, ", "))
}

// Hint says what can be done about it.
func (e *InUseError) Hint() string {
	return "remove them (docker dso down, docker rm), or make them again with another runtime"
}

// ErrNotSetUp says that there is nothing to undo.
var ErrNotSetUp = errors.New("this host was not set up by docker dso setup")

// Removal is what an uninstallation does.
type Removal struct {
	Steps []string `json:"steps"`
	// Kept are data that stay, because they are the user's.
	Kept []string `json:"kept,omitempty"`
}

// PlanUninstall says what [Host.Uninstall] would do, or why it would not.
func (h *Host) PlanUninstall(ctx context.Context, purge bool) (Removal, error) {
	r, err := h.loadRecord()
	if err != nil {
		return Removal{}, err
	}
	if r == nil {
		return Removal{}, ErrNotSetUp
	}
	users, err := h.usersOf(ctx)
	if err != nil {
		return Removal{}, err
	}
	if len(users) > 0 {
		return Removal{}, &InUseError{users}
	}
	var rm Removal
	for _, d := range slices.Backward(r.Steps) {
		rm.Steps = append(rm.Steps, "undo: "+d.What)
	}
	rm.Steps = append(rm.Steps, "remove the agent's state: "+strings.Join([]string{stateDir, runDir, lockDir}, ", "))
	for _, dir := range userData {
		if !h.holdsFiles(dir) {
			continue
		}
		if purge {
			rm.Steps = append(rm.Steps, "remove "+dir+" with what is in it")
		} else {
			rm.Kept = append(rm.Kept, dir)
		}
	}
	return rm, nil
}

// userData are the directories that hold what a person has put there.
var userData = []string{configDir, vaultDir, auditDir}

// stateParts are the agent's own, without the record.
var stateParts = []string{"state", "locks", "sealed", "fronts", "agent.lock", imageDraft, daemonDraft}

// Uninstall takes everything back that setups have done. The configuration and the
// vault stay unless purge is set; the agent's state goes, because without containers
// that use it, it is about nothing.
func (h *Host) Uninstall(ctx context.Context, purge bool) (Removal, error) {
	rm, err := h.PlanUninstall(ctx, purge)
	if err != nil {
		return rm, err
	}
	r, err := h.loadRecord()
	if err != nil {
		return rm, err
	}
	r.Complete, r.Begun = false, 0
	if err := h.saveRecord(r); err != nil {
		return rm, err
	}
	h.keepAudit = !purge && h.holdsFiles(auditDir)
	if err := h.endAll(ctx, r); err != nil {
		return rm, err
	}
	if err := h.removeData(purge); err != nil {
		return rm, err
	}
	return rm, h.undoFrom(ctx, r, 0)
}

// endAll ends the agent, whatever it runs as.
func (h *Host) endAll(ctx context.Context, r *Record) error {
	if !h.live() {
		return nil
	}
	end := h.endAgent
	if r.made(RunAgent) {
		end = h.removeContainer
	}
	if err := end(ctx); err != nil {
		return err
	}
	if err := h.forgetLane(ctx, r); err != nil {
		return err
	}
	return h.removeImages(ctx)
}

// forgetLane removes what an agent that was killed has left in the engine's firewall; one
// that ends does it itself.
func (h *Host) forgetLane(ctx context.Context, r *Record) error {
	agent := filepath.Join(filepath.Dir(r.Registers.Path), "dso-agent")
	if !exists(agent) {
		return nil
	}
	_, err := h.Run(ctx, agent, "-forget")
	return err
}

// frontLabel is on the images that the agent has made for the fronts.
const frontLabel = "dso.role=front"

// removeImages removes the images that agents have loaded into the engine; one that a
// container still needs stays, with the container.
func (h *Host) removeImages(ctx context.Context) error {
	if _, err := h.Engine.Info(ctx); err != nil {
		return nil //nolint:nilerr // an engine that does not run cannot be asked
	}
	out, err := h.Run(ctx, "docker", "image", "ls", "--quiet", "--filter", "label="+frontLabel)
	if err != nil {
		return err
	}
	for image := range strings.FieldsSeq(out) {
		_, _ = h.Run(ctx, "docker", "image", "rm", image)
	}
	return nil
}

// removeData removes what agents have left. The agent has ended, and no container has
// a file there any more.
func (h *Host) removeData(purge bool) error {
	errs := []error{h.removeOwn(stateDir), h.removeOwn(runDir), h.removeOwn(lockDir)}
	for _, dir := range userData {
		if purge || !h.holdsFiles(dir) {
			errs = append(errs, emptyDir(h.path(dir)))
		}
	}
	return errors.Join(errs...)
}

// removeOwn removes what an agent has put into one of its own directories. In others is
// what people have put there.
func (h *Host) removeOwn(dir string) error {
	switch dir {
	case stateDir:
		var errs []error
		for _, part := range stateParts {
			errs = append(errs, os.RemoveAll(h.path(filepath.Join(dir, part))))
		}
		errs = append(errs, durable.Sweep(h.path(dir)))
		if !h.keepAudit {
			errs = append(errs, os.RemoveAll(h.path(auditDir)))
		}
		return errors.Join(errs...)
	case runDir:
		if h.live() {
			err := syscall.Unmount(h.path(filepath.Join(dir, "private")), 0)
			if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("unmount %s/private: %w", dir, err)
			}
		}
		return emptyDir(h.path(dir))
	case lockDir:
		return emptyDir(h.path(dir))
	}
	return nil
}

// emptyDir removes what is in a directory; the directory is a step of its own.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// holdsFiles reports whether there is a file in a directory or below, with something in
// it: an agent begins an audit log with an empty one.
func (h *Host) holdsFiles(dir string) bool {
	found := false
	_ = filepath.WalkDir(h.path(dir), func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil && info.Size() > 0 {
			found = true
			return filepath.SkipAll
		}
		return nil
	})
	return found
}

// undo takes one step back. What is gone already is undone.
func (h *Host) undo(ctx context.Context, r *Record, i int) error {
	d := &r.Steps[i]
	path := h.path(d.Path)
	switch d.Kind {
	case MakeGroup:
		if _, there := h.groupID(d.Name); !there {
			return nil
		}
		_, err := h.Run(ctx, "groupdel", h.prefixed(d.Name)...)
		return err
	case MakeDir:
		// It was not there before: what is in it is this setup's, or its agent's.
		return errors.Join(h.removeOwn(d.Path), removeIfEmpty(path))
	case WriteFile:
		return h.putBack(ctx, r, i)
	case CopyFile:
		return h.uninstallProgram(path, d)
	case EnableUnit:
		if !h.unitThere(d.Name) {
			return nil
		}
		_, err := h.systemctl(ctx, "disable", d.Name)
		return err
	case StartAgent:
		return h.endAgent(ctx)
	case RunAgent:
		return h.undoContainer(ctx, r, i)
	}
	return fmt.Errorf("no step is of kind %q", d.Kind)
}

// removeIfEmpty leaves a directory in which somebody has put something: also the one of
// the record, as long as there is one.
func removeIfEmpty(path string) error {
	err := os.Remove(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY):
		return nil
	}
	return err
}

func (h *Host) uninstallProgram(path string, d *Done) error {
	if d.Before == nil {
		return durable.Remove(path)
	}
	if !exists(besides(path)) {
		return nil // there was one before, and it was replaced for good
	}
	return durable.Rename(besides(path), path)
}

func (h *Host) unitThere(unit string) bool {
	return exists(h.path(filepath.Join(unitDir, unit))) || exists(h.path(filepath.Join(packageUnitDir, unit)))
}

// undoContainer ends the agent's container, and lets the one before run again that an
// earlier setup has made.
func (h *Host) undoContainer(ctx context.Context, r *Record, i int) error {
	if err := h.endContainer(ctx, r.Steps[i]); err != nil {
		return err
	}
	for _, d := range slices.Backward(r.Steps[:min(i, r.Begun)]) {
		if d.Kind == RunAgent {
			return h.startContainer(ctx, d.Name)
		}
	}
	return nil
}

// endAgent stops the agent and its sockets.
func (h *Host) endAgent(ctx context.Context) error {
	var there []string
	for _, unit := range units {
		if h.unitThere(unit) {
			there = append(there, unit)
		}
	}
	if len(there) == 0 {
		return nil
	}
	_, err := h.systemctl(ctx, append([]string{"stop"}, there...)...)
	return err
}

// putBack gives a file the content that it had. One that somebody else has changed
// since is theirs, but for what is ours in daemon.json.
func (h *Host) putBack(ctx context.Context, r *Record, i int) error {
	d := &r.Steps[i]
	path := h.path(d.Path)
	now, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ours := slices.Contains(d.Wrote, hashOf(now))
	switch {
	case d.Before != nil && bytes.Equal(now, d.Before.Content):
		return nil // it was not written yet, or is put back already
	case d.Effect == ReloadEngine:
		return h.putBackDaemon(ctx, r, i, now, ours)
	case !ours:
		return nil
	}
	if err := h.restore(path, d); err != nil {
		return err
	}
	if d.Effect == CreateFiles {
		return nil
	}
	return h.effect(ctx, d.Effect, d.Path, r.Registers)
}

func (h *Host) restore(path string, d *Done) error {
	if d.Before == nil {
		return durable.Remove(path)
	}
	return h.write(path, d.Before.Content, d.Before.Mode, d.Before)
}

// putBackDaemon takes the runtime out of daemon.json and out of the running engine. An
// engine keeps what a file does not mention, so it reads one that mentions it first.
func (h *Host) putBackDaemon(ctx context.Context, r *Record, i int, now []byte, ours bool) error {
	d := &r.Steps[i]
	path := h.path(d.Path)
	last, err := unregister(now)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if ours && d.Before != nil {
		last = d.Before.Content
	}
	before, err := readRegistered(last)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, stays := before.Runtimes[RuntimeName]; h.live() && !stays {
		between, err := forget(last)
		if err != nil {
			return err
		}
		if ours { // also when this is cut off now
			d.Wrote = append(d.Wrote, hashOf(between))
			if err := h.saveRecord(r); err != nil {
				return err
			}
		}
		if err := h.write(path, between, d.Mode, d.Before); err != nil {
			return err
		}
		if err := h.reloadEngine(ctx, forgotten); err != nil {
			return err
		}
	}
	if ours {
		return h.restore(path, d)
	}
	return h.write(path, last, d.Mode, d.Before)
}

// forgotten says why the engine still knows the runtime.
func forgotten(i Info) error {
	if path, there := i.Runtimes[RuntimeName]; there || i.Default == RuntimeName {
		return fmt.Errorf("the engine still knows the runtime %s (%s)", RuntimeName, path)
	}
	return nil
}
