// Package private owns the tmpfs on which every value that must be a file lies,
// and the names on it. The agent mounts it and writes the files of containers;
// dso-runtime writes its rewritten bundles there.
//
// Invariants:
//   - It is a mount of its own that only root can enter, and, where the kernel
//     can, it is never swapped.
//   - It is mounted once and reused: running containers hold on to it.
package private
