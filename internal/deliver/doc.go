// Package deliver owns what containers have been given: their files on the
// private tmpfs, the record of the versions they got, and the pins that decide
// what they get next.
//
// Invariants:
//   - A container gets all of its values or none, all of one snapshot.
//   - The files of a container change in one instant: a new directory, then one
//     symlink swap (the scheme of Kubernetes' atomic writer).
//   - Values lie only below the private root, which must be a tmpfs; it is
//     mounted once and reused, since running containers hold on to it.
//   - The record lives as long as the containers do: on the tmpfs, past the
//     agent's death, gone with the host. It and the pins hold versions only.
package deliver
