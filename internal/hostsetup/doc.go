// Package hostsetup makes a host one that runs DSO, and takes it back.
//
// [Detect] looks at the host, [NewPlan] says what is to be done (it is pure), [Host.Apply]
// does it, and [Host.Uninstall] undoes it. Between Detect and Apply a person may be shown
// the plan.
//
// Invariants:
//   - Before a step has an effect, the record says what there was before. A setup that
//     fails, or that was killed, is undone from it; so is one that succeeded.
//   - A file is put back byte for byte, unless somebody else has changed it since: then
//     only what is ours is taken out of daemon.json, and other files stay.
//   - The engine is asked to read daemon.json again; it is never restarted.
//   - A host that is set up gives an empty plan.
//   - Nothing is taken away while a container needs it.
package hostsetup
