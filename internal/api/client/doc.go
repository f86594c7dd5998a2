// Package client is the command line's end of the agent's API.
//
// Invariants:
//   - An agent that is not there is [ErrNoAgent], a socket that the caller may
//     not open is [ErrDenied]; everything the agent itself says is a
//     [*wire.Problem] inside the error.
package client
