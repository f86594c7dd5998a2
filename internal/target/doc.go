// Package target owns the rules by which containers are given secrets that their own
// specification does not name: the secrets of dso.yaml with their targets.
//
// The agent writes the rules to a file, and dso-runtime and the agent itself ask them
// about one container at a time. They hold references, never a value.
//
// Invariants:
//   - Both sides ask the same function: what a container is given at its start is what
//     the agent says that it uses.
//   - A container of a rotation is asked about by the name of its place: the
//     replacement is given what the original was.
//   - Where two rules give the same variable or setting, the first one counts.
package target
