// Package api serves the agent to people: HTTP with JSON bodies over a unix
// socket. The messages are in wire, the other end is in client.
//
// Invariants:
//   - Every call is checked against the peer's credentials, which the kernel
//     vouches for: root and the agent's own user may do everything, others only
//     what the route says. Being able to open the socket is not enough to read a
//     value.
//   - A value is in an answer only of the one call that asks for it.
package api
