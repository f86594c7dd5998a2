package rotation

// Todo says, for a rotation that is not over, what carrying it on means and why it
// is so; what is empty when there is nothing left to do.
func (e *Entry) Todo() (what, why string) {
	switch {
	case e.NeedsPerson() && e.StuckStep != "":
		return "try again from step " + string(e.StuckStep), "it needs a person: " + e.ErrorMessage
	case e.NeedsPerson():
		return "try again", "it needs a person: " + e.ErrorMessage
	case !e.Pending():
		return "", ""
	case e.Phase != Forward:
		return phaseWords[e.Phase] + ", from step " + string(e.Step), e.ErrorMessage
	case e.undoable():
		return "carry on from step " + string(e.Step) + ", and roll back if that fails", e.Cause
	}
	return "finish, from step " + string(e.Step), "the new versions serve already"
}

// Named reports whether name means this rotation: its key in the journal, its id,
// or its container.
func (e *Entry) Named(name string) bool {
	return name == e.Key() || name == e.ID || name == e.ContainerName
}
