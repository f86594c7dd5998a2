// Package front is what dso-front is made of: PID 1 of the container that owns a
// service's name, address and published ports, and has the kernel of its own
// network namespace forward them to the container that is current.
//
// It loads the map that the agent stores (package frontmap), finds the named
// containers through Docker's DNS, and writes one nft transaction per change.
// A cycle runs when the map changes and every 250 ms, so that a container that
// came back at another address is found with nobody's help. The targets of a map that is
// announced are looked for as well, so that a switch to them waits for no name server.
//
// Invariants:
//   - Not a byte of traffic passes through this process, and the kernel goes on
//     forwarding when it dies.
//   - An address is in the kernel only while a name in force resolves to it. A
//     name may be unknown for a second (Docker's rename does that), no longer. While
//     the engine itself does not answer, everything stays as it is.
//   - An address is on a network of the front itself: DNS servers behind Docker's
//     cannot send traffic away.
//   - Established TCP connections stay where they are. What would otherwise stick to
//     a container that has left does not: requests by UDP begin another flow, while
//     the answers that are owed still arrive, and TCP handshakes that nobody answers
//     are forgotten.
//   - An error leaves the kernel as it was; the next cycle tries again.
package front
