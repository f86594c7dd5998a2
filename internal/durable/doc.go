// Package durable is the only place that writes state to disk.
//
// Invariants:
//   - After [WriteFile] returns nil, the new content survives a power cut; until
//     then the old content does. A reader sees one or the other, never a mixture.
//   - A file is never wider than its mode, not even for a moment.
package durable
