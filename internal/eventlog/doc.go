// Package eventlog keeps the last events of an agent for who asks or listens. An
// event is what the agent logs at level info or above: what an operator wants to
// know the next day is in one place and has one wording.
//
// Invariants:
//   - It never makes the agent wait: who does not listen fast enough misses the
//     oldest events, and sees by the numbers that they did.
//   - It holds what the log holds: no value of a secret.
package eventlog
