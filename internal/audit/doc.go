// Package audit is the record of who read, set, rotated and was given which version of
// which secret: an append-only file of JSON lines in which each line names the hash of
// the one before.
//
// Invariants:
//   - A record has no place for a value.
//   - A line is one write. What a crash cuts off is a last line without a newline: it is
//     removed when the log is opened, and a record says so. Anything else that does not
//     fit is tampering, or a disk that lies; it stays, and the log goes on in a new file.
//   - A file that has reached its size is never written again. The chain goes on over the
//     files; the oldest ones are removed, and what is left is a chain of its own.
//   - Appending does not wait for the disk. Run does, right after: what a power cut can
//     lose are the records of its last moment, and what the death of the agent can is none.
//
// Whoever is root can write another chain from the beginning. Against that helps only a
// head that was noted elsewhere: Verify says whether it is still part of the chain.
package audit
