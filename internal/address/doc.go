// Package address owns the agent's side of names and ports that do not move: it
// tells the fronts which containers are current, and reads from the kernel what
// they made of it.
//
// Invariants:
//   - Telling a front is one rename of a durable file ([Fronts]), which lies there already
//     where the switch was announced; nothing here writes to the
//     kernel, and nothing here is needed for traffic.
//   - Whether a switch took effect, and what still runs on an old container, is
//     read in the network namespace of the container itself, not guessed.
//   - No goroutine or thread of the agent is left in a foreign namespace.
//
// What a front is told and answers is in package frontmap, what it does in
// package front, what it is packed in in package frontimage.
package address
