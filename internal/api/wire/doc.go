// Package wire owns the messages between DSO's programs: between the runtime and
// the agent (this file's neighbours runtime.go), and between the command line and
// the agent (agent.go).
//
// Invariants:
//   - It imports nothing heavy: dso-runtime links it.
//   - Values cross only the two unix sockets, never a log or a file.
package wire
