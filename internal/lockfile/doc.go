// Package lockfile keeps locks as files: locked with flock for as long as somebody
// has the lock, with a content that tells people who that is.
//
// Invariants:
//   - The kernel's word alone counts. It drops a lock when the holder dies, however
//     that happens, so there is no such thing as a stale lock; a file that nobody
//     has locked means nothing, whatever it says.
//   - A lock is never inherited: its file is closed in every child (O_CLOEXEC).
//   - Whoever gives a lock back removes its file while it is locked, and whoever
//     takes one makes sure that it got the file of that name.
package lockfile
