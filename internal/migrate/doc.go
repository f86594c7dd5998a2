// Package migrate finds the secrets that a Compose project has in the clear, and writes
// its files anew with references in their place.
//
// Invariants:
//   - Planning is pure: it reads what it is given, and writes nothing.
//   - A file is never overwritten. What is new lies beside the original, as NAME.dso.EXT.
//   - A plan can be shown: its values are secret.Value, which does not print.
//   - What is not clear is left as it is, and said to be left, with the place.
//   - What is migrated already stays byte by byte what it is.
package migrate
