// Package program owns the protocol between DSO and provider programs, which
// docs/reference/provider-protocol.md explains, and serves it for programs that are
// written in Go: what keeps the contract of provider.Provider is a program with
//
//	err := program.Serve(ctx, store, os.Stdin, os.Stdout)
//
// One that is a provider.Watcher too tells DSO of changes.
//
// Invariants:
//   - Of an error its code is told, and nothing else: the text might hold a value.
//   - One answer is written at a time, as one line.
package program
