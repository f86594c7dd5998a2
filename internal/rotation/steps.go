package rotation

import (
	"slices"
	"time"
)

// Step is one idempotent act of a rotation.
type Step string

// The steps, in the order in which the programs use them.
const (
	StepHold              Step = "hold"               // pin the original to the versions it has
	StepCreate            Step = "create"             // make the replacement, not started
	StepAssign            Step = "assign"             // pin the container that will serve to the new versions
	StepStart             Step = "start"              // start the replacement
	StepGate              Step = "gate"               // wait until it is healthy
	StepCutOver           Step = "cut-over"           // point the front at the replacement
	StepPark              Step = "park"               // keep the engine from starting the original again
	StepWatch             Step = "watch"              // watch what serves now, while an original beside it drains
	StepNameOriginal      Step = "name-original"      // the original takes the backup name
	StepNameReplacement   Step = "name-replacement"   // the replacement takes the original's name
	StepStop              Step = "stop"               // stop the original: from here on only forward
	StepRemove            Step = "remove"             // remove the original
	StepRelease           Step = "release"            // unpin: follow the current version again
	StepRestart           Step = "restart"            // restart the container in place
	StepDependants        Step = "dependants"         // restart what lives in its network
	StepRefresh           Step = "refresh"            // change the files in place
	StepRevive            Step = "revive"             // make the original run, with the versions it had
	StepCutBack           Step = "cut-back"           // point the front at the original again
	StepNameBack          Step = "name-back"          // undo the names
	StepRemoveReplacement Step = "remove-replacement" // remove the replacement
	StepUnpark            Step = "unpark"             // give the original its restart policy again
	StepPin               Step = "pin"                // pin to the old versions until the secret changes again
	StepRestartOld        Step = "restart-old"        // restart in place with the old versions
	StepGateOld           Step = "gate-old"           // wait until it is healthy again
	StepRefreshOld        Step = "refresh-old"        // change the files back
	StepSettle            Step = "settle"             // unpin, unless the new versions are why
	StepRecreate          Step = "recreate"           // make the original again, not started
	StepStartOld          Step = "start-old"          // start it
	StepHandOver          Step = "hand-over"          // give the front to the container that has the place
	StepSignal            Step = "signal"             // send the signal at which the process reads its files anew
	StepSignalOld         Step = "signal-old"         // send it for the files before
	StepExec              Step = "exec"               // run the command that makes the process read its files anew
	StepExecOld           Step = "exec-old"           // run it for the files before
)

// programs lists the steps of each strategy in each phase.
var programs = map[Strategy]map[Phase][]Step{
	Rolling: {
		Forward:  {StepHold, StepCreate, StepAssign, StepStart, StepGate, StepCutOver, StepPark, StepWatch, StepNameOriginal, StepNameReplacement, StepStop, StepRemove, StepRelease},
		Back:     {StepPin, StepUnpark, StepRevive, StepCutBack, StepNameBack, StepRemoveReplacement, StepSettle},
		Adopt:    {StepStart, StepGate, StepCutOver, StepNameReplacement, StepRemove, StepRelease},
		Recreate: recreated,
		Yield:    yielded,
	},
	Restart: {
		Forward:  {StepAssign, StepRestart, StepGate, StepDependants, StepWatch, StepRelease},
		Back:     {StepPin, StepRestartOld, StepGateOld, StepDependants, StepSettle},
		Recreate: recreated,
		Yield:    yielded,
	},
	// What follows has no rescue: it makes nothing, and what somebody removed is gone.
	Signal: {
		Forward: {StepAssign, StepRefresh, StepSignal, StepGate, StepWatch, StepRelease},
		Back:    {StepPin, StepRefreshOld, StepSignalOld, StepGateOld, StepSettle},
	},
	Exec: {
		Forward: {StepAssign, StepRefresh, StepExec, StepGate, StepWatch, StepRelease},
		Back:    {StepPin, StepRefreshOld, StepExecOld, StepGateOld, StepSettle},
	},
	None: {
		Forward: {StepAssign, StepRefresh, StepRelease},
		Back:    {StepPin, StepRefreshOld, StepSettle},
	},
}

// Whatever the strategy was, an original that is missing is missed in the same way.
var (
	recreated = []Step{StepRecreate, StepPin, StepStartOld, StepGateOld, StepCutBack, StepRemoveReplacement, StepRemove, StepSettle}
	yielded   = []Step{StepHandOver, StepRemove, StepRemoveReplacement}
)

// program is what the entry's phase consists of.
func (e *Entry) program() []Step { return programs[e.Strategy][e.Phase] }

// reloads reports whether the process goes on, and is told to read its files anew.
func (e *Entry) reloads() bool { return e.Strategy == Signal || e.Strategy == Exec }

// first is the step that the entry begins with. One that tries what a container was
// started with begins at the gate: what comes before has happened, without it.
func (e *Entry) first() Step {
	if e.Tries {
		return StepGate
	}
	return e.program()[0]
}

// retires is the first step that cannot be undone: from it on, a rotation only
// moves forward.
const retires = StepStop

// undoable reports whether a failure at the entry's step still leads back.
func (e *Entry) undoable() bool {
	if e.Phase != Forward {
		return false
	}
	steps := e.program()
	point := slices.Index(steps, retires)
	if point < 0 {
		point = slices.Index(steps, StepRelease)
	}
	return slices.Index(steps, e.Step) < point
}

// starters are the steps that start the container that serves from then on, or find
// that it runs.
var starters = []Step{StepStart, StepRestart, StepRevive, StepRestartOld, StepStartOld, StepSignal, StepSignalOld, StepExec, StepExecOld}

// startedServing reports whether the entry is past the step that started the
// container that serves in its direction.
func (e *Entry) startedServing() bool {
	steps := e.program()
	at := slices.IndexFunc(steps, func(s Step) bool { return slices.Contains(starters, s) })
	return at >= 0 && slices.Index(steps, e.Step) > at
}

// effectDeadline bounds one step that is not a wait. An engine that needs longer
// has hung; the step is tried again or rolled back.
const effectDeadline = 90 * time.Second

// deadline returns how long a step may take.
func (e *Entry) deadline() time.Duration {
	switch e.Step {
	case StepGate, StepGateOld, StepHandOver, StepExec, StepExecOld:
		return e.Timing.Health + effectDeadline
	case StepWatch:
		return max(e.Timing.Health, e.Timing.Monitor+e.Timing.Drain) + effectDeadline
	case StepStop, StepRestart, StepRestartOld, StepRevive, StepDependants:
		return e.stopTimeout() + effectDeadline
	default:
		return effectDeadline
	}
}

// defaultStopTimeout is the engine's own, when the container sets none.
const defaultStopTimeout = 10 * time.Second

func (e *Entry) stopTimeout() time.Duration {
	if e.Original.Spec.Config == nil || e.Original.Spec.Config.StopTimeout == nil {
		return defaultStopTimeout
	}
	return time.Duration(*e.Original.Spec.Config.StopTimeout) * time.Second
}
