package rotation

// Phase is which of its programs a rotation is in. A rotation begins forward, and
// turns to another phase when that cannot be finished: back, or, when somebody else
// took the original or its place, to a rescue.
type Phase string

// The phases of a rotation.
const (
	Forward  Phase = "forward"  // to the new versions
	Back     Phase = "back"     // to the versions before
	Adopt    Phase = "adopt"    // the original is missing: the replacement gets its place
	Recreate Phase = "recreate" // the original is missing: it is made again from the journal
	Yield    Phase = "yield"    // the place is somebody else's now: ours are removed
)

// Phases lists the phases in the order of this page.
var Phases = []Phase{Forward, Back, Adopt, Recreate, Yield}

var outcomes = map[Phase]Outcome{
	Forward:  OutcomeRotated,
	Back:     OutcomeRolledBack,
	Adopt:    OutcomeAdopted,
	Recreate: OutcomeRecreated,
	Yield:    OutcomeYielded,
}

// outcome is how a rotation ends that finishes in this phase.
func (p Phase) outcome() Outcome { return outcomes[p] }

var phaseWords = map[Phase]string{
	Back:     "roll back",
	Adopt:    "give the original's place to the replacement",
	Recreate: "make the original again",
	Yield:    "remove ours beside the container that has the place",
}
