// Package cli is the command line, one file a command: parse, ask the agent,
// print. It decides nothing.
//
// Invariants:
//   - It links no provider and no engine: the docker CLI runs every plugin to
//     read its metadata, and that takes milliseconds.
//   - A value never comes from an argument and goes to standard output only when
//     it was asked for.
//   - Errors are printed as "dso: error: …", followed by "dso: hint: …" where
//     there is a way out; the exit code comes from the table in exit.go.
package cli
