// Package reconcile compares what should be with what is, and starts rotations.
//
// Containers are taken together in groups: the replicas of one Compose service,
// or one container alone. One goroutine at a time works on a group, so replicas
// change one after the other and a container is never in two rotations.
//
// Invariants:
//   - On every connection to the engine: subscribe, claim it, list, compare. Events
//     only say where to look; nothing depends on seeing all of them. Those that find
//     their queue full are dropped and counted, and everything is compared.
//   - Work on a group starts with what the journal says is pending there, so
//     recovery and everyday work are the same code.
//   - A container is rotated because its delivered versions differ from the
//     current ones, never because the agent started.
package reconcile
