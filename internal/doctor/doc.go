// Package doctor owns the checks of docker dso doctor: what is looked at, what is wrong,
// why, and what to do about it.
//
// Invariants:
//   - A check is a pure function over [Facts]. Gathering them is package host's, and so is
//     doing what a finding offers to do.
//   - The id of a check never changes its meaning and is never used again.
//   - What could not be looked at is said to be so; it is neither good nor bad.
//   - A repair is offered as safe only when it cannot take anything from anybody: it is
//     about what nobody holds, or makes narrower who may read something.
package doctor
