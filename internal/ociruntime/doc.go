// Package ociruntime is what dso-runtime is made of: an OCI runtime that wraps
// the real one and gives a starting container its secrets.
//
// Docker runs it in place of runc, with runc's arguments. For "create" and "exec"
// it looks for references in the process's environment. Without any, it becomes
// the real runtime at once. Otherwise it asks the agent for the values, hands
// the real runtime a rewritten copy on a private tmpfs, and deletes that.
//
// Invariants:
//   - The engine's own bundle is never written to.
//   - It never calls the engine: the engine holds the container's lock meanwhile.
//   - All references resolve or nothing starts; the reason goes to the log file
//     that the engine shows to the user.
//   - Unknown members of the configuration pass through unchanged.
//   - It imports nothing heavy: it runs at every container operation.
package ociruntime
