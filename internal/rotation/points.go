package rotation

import "fmt"

// The moments of a step at which an agent can die: the journal says that the step
// is next, its effect is about to begin, its effect has happened.
const (
	Recorded = "recorded"
	Before   = "before"
	After    = "after"
)

// Moments are the moments of a step, in the order in which they pass.
var Moments = []string{Recorded, Before, After}

// stepEnd stands for the step after the last: it has a record and no effect.
const stepEnd Step = "end"

// Point is one moment of one step: where [Machine.Fault] is asked.
type Point struct {
	Strategy Strategy
	Phase    Phase
	Step     Step
	Moment   string
}

// String is the point's name, such as "rolling/forward/gate/after".
func (p Point) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", p.Strategy, p.Phase, p.Step, p.Moment)
}

// Points lists every point of every strategy, in the order of the programs.
func Points() []Point {
	var all []Point
	for _, s := range Strategies {
		for _, phase := range Phases {
			steps, ok := programs[s][phase]
			if !ok {
				continue
			}
			for _, step := range steps {
				for _, moment := range Moments {
					all = append(all, Point{s, phase, step, moment})
				}
			}
			all = append(all, Point{s, phase, stepEnd, Recorded})
		}
	}
	return all
}

func (e *Entry) point(moment string) Point {
	p := Point{e.Strategy, e.Phase, e.Step, moment}
	if !e.Pending() {
		p.Step = stepEnd
	}
	return p
}
