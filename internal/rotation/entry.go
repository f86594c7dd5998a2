package rotation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Status is the public state of a rotation, as the journal's readers know it.
type Status string

// The statuses of a rotation.
const (
	StatusInProgress       Status = "in_progress"
	StatusRollbackRequired Status = "rollback_required" // on its way back
	StatusCompleted        Status = "completed"
	StatusRecovered        Status = "recovered" // rolled back, or finished by a later agent
	StatusCritical         Status = "critical_error"
)

// Outcome says how a finished rotation ended.
type Outcome string

// The outcomes of a rotation.
const (
	OutcomeRotated    Outcome = "rotated"
	OutcomeRolledBack Outcome = "rolled_back"
	OutcomeGone       Outcome = "gone"      // somebody else removed the container meanwhile
	OutcomeFailed     Outcome = "failed"    // neither was possible: a person must look
	OutcomeMarked     Outcome = "marked"    // a person said that it is over
	OutcomeAdopted    Outcome = "adopted"   // the original was missing: the replacement has its place
	OutcomeRecreated  Outcome = "recreated" // the original was missing: made again, with the versions before
	OutcomeYielded    Outcome = "yielded"   // somebody else's container has the place: ours are removed
)

// Outcomes lists them.
var Outcomes = []Outcome{
	OutcomeRotated, OutcomeRolledBack, OutcomeGone, OutcomeFailed, OutcomeMarked, OutcomeAdopted, OutcomeRecreated, OutcomeYielded,
}

// Entry is one rotation of one container, as it stands in the journal. It holds
// versions and references, never a value.
type Entry struct {
	ID                  string          `json:"id"`
	ProviderName        string          `json:"provider_name"`
	SecretName          string          `json:"secret_name"`
	ContainerName       string          `json:"container_name"`
	OriginalContainerID string          `json:"original_container_id"`
	NewContainerID      string          `json:"new_container_id"`
	Status              Status          `json:"status"`
	Outcome             Outcome         `json:"outcome,omitempty"`
	StartTime           time.Time       `json:"start_time"`
	LastUpdate          time.Time       `json:"last_update"`
	ErrorMessage        string          `json:"error_message"`
	Cause               string          `json:"cause"`
	Strategy            Strategy        `json:"strategy"`
	Reasons             []string        `json:"reasons"`
	Step                Step            `json:"step"`
	StuckStep           Step            `json:"stuck_step,omitempty"` // of a rotation that needs a person
	Phase               Phase           `json:"phase"`
	RecreatedID         string          `json:"recreated_container_id,omitempty"`
	HolderID            string          `json:"holder_container_id,omitempty"` // who has the place instead of ours
	Recovered           bool            `json:"recovered,omitempty"`           // continued by an agent that did not begin it
	Tries               bool            `json:"tries,omitempty"`               // it began with a start that was not its own
	Unfit               bool            `json:"unfit,omitempty"`               // the new versions are why it turned back
	From                secret.Versions `json:"from"`
	To                  secret.Versions `json:"to"`

	// What the steps need, fixed when the rotation is planned.
	NewName    string           `json:"new_name,omitempty"`
	BackupName string           `json:"backup_name,omitempty"`
	Front      *Front           `json:"front,omitempty"`
	Dependants []string         `json:"dependants,omitempty"` // ids of containers inside the original's network
	Ports      []uint16         `json:"ports,omitempty"`      // TCP ports the original accepted connections on
	Original   engine.Container `json:"original"`             // as it was before
	Timing     Timing           `json:"timing"`
	Signal     string           `json:"signal,omitempty"`  // of the strategy signal
	Command    []string         `json:"command,omitempty"` // of the strategy exec
}

// Front names the front that owns a service's name, address and ports.
type Front struct {
	Key string `json:"key"` // of its map
	ID  string `json:"id"`  // of its container
}

// Timing bounds the waits of a rotation. All are set by labels, with defaults.
type Timing struct {
	Health  time.Duration `json:"health"`  // the longest wait for the health gate
	Monitor time.Duration `json:"monitor"` // the shortest watch after the cut-over
	Drain   time.Duration `json:"drain"`   // the longest wait for old connections
}

// Key returns the entry's key in the journal.
func (e *Entry) Key() string {
	return fmt.Sprintf("%s:%s:%s", e.ProviderName, e.SecretName, e.OriginalContainerID)
}

// Pending reports whether there is something left to do.
func (e *Entry) Pending() bool { return e.Step != "" }

// Unfinished reports whether the rotation is pending, or needs a person.
func (e *Entry) Unfinished() bool { return e.Pending() || e.NeedsPerson() }

// check says why an entry that is not over cannot be carried on: its steps would
// not find what they need. A file that somebody edited, or a label, may hold anything.
func (e *Entry) check() error {
	if !e.Unfinished() {
		return nil
	}
	spec := e.Original.Spec
	switch {
	case len(e.program()) == 0:
		return fmt.Errorf("strategy %q has no phase %q", e.Strategy, e.Phase)
	case e.Pending() && !slices.Contains(e.program(), e.Step):
		return fmt.Errorf("strategy %q has no step %q in phase %q", e.Strategy, e.Step, e.Phase)
	case e.ID == "" || e.OriginalContainerID == "" || e.ContainerName == "":
		return errors.New("it names no rotation, or no container")
	case e.Strategy != None && (spec.Config == nil || spec.HostConfig == nil):
		return errors.New("it does not specify its container")
	case e.Strategy == Rolling && (e.NewName == "" || e.BackupName == ""):
		return errors.New("it does not say what its containers are called")
	case e.Strategy == Signal && e.Signal == "" || e.Strategy == Exec && len(e.Command) == 0:
		return errors.New("it does not say how the process is told to read its files anew")
	case e.Phase == Adopt && e.NewContainerID == "" || e.Phase == Yield && e.HolderID == "":
		return fmt.Errorf("it names no container for phase %q", e.Phase)
	}
	return nil
}

// NeedsPerson reports whether the rotation ended in a way that it does not leave
// by itself.
func (e *Entry) NeedsPerson() bool { return !e.Pending() && e.Status == StatusCritical }

// again puts a rotation that needs a person back to the step it is stuck at.
func (e *Entry) again() {
	e.Step, e.StuckStep = e.StuckStep, ""
	if !slices.Contains(e.program(), e.Step) {
		e.Step = e.program()[0] // done already is success
	}
	e.Outcome, e.Recovered = "", true
	if e.Phase == Forward {
		e.Status, e.ErrorMessage = StatusInProgress, ""
		return
	}
	e.Status = StatusRollbackRequired
}

// RetryLater reports whether the rotation was undone for a reason that is not the
// new versions', so that it is worth trying again.
func (e *Entry) RetryLater() bool {
	return !e.Pending() && !e.Unfit && (e.Outcome == OutcomeRolledBack || e.Outcome == OutcomeRecreated)
}

// Concerns reports whether the container is one of the rotation's, or has its place.
func (e *Entry) Concerns(containerID string) bool {
	return slices.Contains(e.ours(), containerID) || e.HolderID == containerID
}

// Serving returns the id of the container that has the place when the rotation
// ends in its phase.
func (e *Entry) Serving() string { return e.serving() }

// policy returns the restart policy that the user gave the original.
func (e *Entry) policy() container.RestartPolicy {
	if e.Original.Spec.HostConfig == nil {
		return container.RestartPolicy{}
	}
	return e.Original.Spec.HostConfig.RestartPolicy
}

// advance moves to the next step of the phase, or to the end.
func (e *Entry) advance() {
	steps := e.program()
	for i, s := range steps {
		if s == e.Step {
			if i+1 < len(steps) {
				e.Step = steps[i+1]
				return
			}
			break
		}
	}
	e.finish()
}

func (e *Entry) finish() {
	e.Step = ""
	e.Outcome, e.Status = e.Phase.outcome(), StatusRecovered
	if e.Phase == Forward && !e.Recovered {
		e.Status = StatusCompleted
	}
}

// turnBack starts the way back.
func (e *Entry) turnBack(cause error) {
	e.ErrorMessage = cause.Error()
	e.Unfit = unfit(cause)
	e.turn(Back)
}

// unfit reports whether an error says that the versions are no good.
func unfit(cause error) bool {
	return errors.Is(cause, ErrUnhealthy) || errors.Is(cause, ErrRefused) || errors.Is(cause, ErrReload) || errors.Is(cause, secret.ErrUnfit)
}

func (e *Entry) turn(p Phase) {
	e.Phase, e.Status = p, StatusRollbackRequired
	e.Step = e.program()[0]
}
