// Package engine owns the few Docker Engine calls that DSO makes, and the view
// of a container that the rest of the program plans with.
//
// Invariants:
//   - Every call is idempotent where the engine allows it: what is already so is
//     a success ("already started", "no such container" when removing).
//   - Errors are classified with containerd/errdefs by the callers; nobody
//     compares strings.
//   - A [Spec] is complete enough to make the container again and contains only
//     references, because that is all the specification ever had.
package engine
