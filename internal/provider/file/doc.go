// Package file is the provider of a directory with one file per secret.
//
// Invariants:
//   - Nothing outside the directory is read: a path with a link that leads out of it
//     is refused by the kernel's view of the directory, not by comparing strings.
//   - A value is the whole file, byte by byte.
//   - A version is a fingerprint of the value: touching a file changes nothing.
package file
